//go:build !fault

package fault

// At does nothing in an ordinary build.
func At(step string) {}

// Skip is false in an ordinary build.
func Skip(step string) bool { return false }
