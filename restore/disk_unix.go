//go:build linux || darwin || freebsd

package restore

import (
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// diskOf tells which file system the path lies on, or will lie on once it is
// made, and how many bytes are free there for others than root.
func diskOf(path string) (id uint64, free int64, ok bool) {
	for {
		info, err := os.Stat(path)
		if err == nil {
			stat, isStat := info.Sys().(*syscall.Stat_t)
			var fs unix.Statfs_t
			if !isStat || unix.Statfs(path, &fs) != nil {
				return 0, 0, false
			}
			return uint64(stat.Dev), int64(fs.Bavail) * int64(fs.Bsize), true
		}
		parent := filepath.Dir(path)
		if parent == path {
			return 0, 0, false
		}
		path = parent
	}
}
