//go:build linux || darwin || freebsd || dragonfly

package drill

import "syscall"

// Free returns how many bytes this user may still write in the folder; false if
// the system does not tell.
func Free(folder string) (int64, bool) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(folder, &s); err != nil {
		return 0, false
	}
	return int64(s.Bavail) * int64(s.Bsize), true
}
