//go:build !linux

package hugepage

import "unsafe"

const available = false

func advise(unsafe.Pointer, uintptr) {}
