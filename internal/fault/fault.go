// Package fault marks the steps at which a test may stop, kill or break walship.
// In an ordinary build every call is an empty inlined function; the build tag
// "fault" gives them the meaning that the environment asks for (see on.go).
// It imports nothing of walship's, so that every package may mark its steps.
package fault
