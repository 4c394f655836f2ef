// Package faults runs random histories of pushes, fetches and prunes against an
// archive behind a network and a server that misbehave, and checks after each
// step what must hold whatever happens. docs/faults.md tells how to use it.
package faults
