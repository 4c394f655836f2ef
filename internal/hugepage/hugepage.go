// Package hugepage has memory stand on huge pages, as far as the system has them
// and gives them to who asks (on Linux with transparent_hugepage set to madvise;
// set to always it does so unasked). The first touch of 16 MB is then 8 page
// faults and not 4,096, which on a virtual machine may cost more than compressing
// what is put there. It is advice: nothing depends on whether it is taken.
package hugepage

import (
	"runtime"
	"runtime/debug"
	"unsafe"
)

// Size is that of a huge page, in bytes.
const Size = 2 << 20

// Advise asks for huge pages under a buffer that has not been touched yet.
func Advise(b []byte) {
	if from, n := inside(b); n > 0 {
		advise(from, n)
	}
}

// inside is the part of a buffer that whole huge pages may stand under.
func inside(b []byte) (from unsafe.Pointer, n uintptr) {
	whole := uintptr(len(b))
	if whole < Size {
		return nil, 0
	}
	start := unsafe.Pointer(unsafe.SliceData(b))
	skip := -uintptr(start) & (Size - 1)
	if skip >= whole {
		return nil, 0
	}
	return unsafe.Add(start, skip), (whole - skip) &^ (Size - 1)
}

// Heap has what the Go heap takes next, up to n bytes of it, stand on huge pages.
// It takes a collection of the garbage that there is, so it is for the beginning
// of what will need about as much. What is not used is not touched.
func Heap(n int) {
	if !available {
		return
	}
	percent := debug.SetGCPercent(-1) // a collection that begins now would keep the room
	reserve(n)
	runtime.GC()
	debug.SetGCPercent(percent)
}

//go:noinline
func reserve(n int) { Advise(make([]byte, n)) }
