//go:build !linux && !darwin && !freebsd && !dragonfly

package drill

// Free tells nothing on this system.
func Free(string) (int64, bool) { return 0, false }
