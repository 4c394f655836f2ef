package hugepage

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const available = true

func advise(from unsafe.Pointer, n uintptr) {
	_ = unix.Madvise(unsafe.Slice((*byte)(from), n), unix.MADV_HUGEPAGE)
}
