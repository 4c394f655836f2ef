package archive

import (
	"io/fs"
	"syscall"
	"time"
)

// identity is what a file keeps for as long as its content stays the same: the
// kernel sets the time of the last change, and nobody else can.
type identity struct {
	dev, ino uint64
	size     int64
	changed  time.Time
}

func identityOf(info fs.FileInfo) (identity, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return identity{}, false
	}
	return identity{uint64(st.Dev), st.Ino, st.Size, time.Unix(st.Ctim.Unix())}, true
}
