package transport

import (
	"os"

	"golang.org/x/sys/unix"
)

// spaceOf asks for the file system that f lies on.
func spaceOf(f *os.File) (Space, error) {
	var s unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &s); err != nil {
		return Space{}, os.NewSyscallError("fstatfs", err)
	}
	unit := s.Frsize
	if unit == 0 {
		unit = s.Bsize
	}
	return Space{Free: int64(s.Bavail) * int64(unit), Total: int64(s.Blocks) * int64(unit), ReadOnly: s.Flags&unix.ST_RDONLY != 0}, nil
}
