package hugepage

import (
	"runtime"
	"testing"
	"unsafe"
)

// Only whole huge pages inside the buffer are asked for.
func TestInside(t *testing.T) {
	big := make([]byte, 5*Size)
	base := uintptr(unsafe.Pointer(&big[0]))
	skip := int(-base & (Size - 1))
	for _, x := range []struct{ from, to, begin, n int }{
		{skip, skip + 3*Size, skip, 3 * Size},
		{skip + 1, skip + 3*Size, skip + Size, 2 * Size},
		{skip, skip + 3*Size - 1, skip, 2 * Size},
		{skip + 1, skip + 2*Size - 1, 0, 0},
		{skip, skip + Size, skip, Size},
		{skip, skip + Size - 1, 0, 0},
		{skip, skip, 0, 0},
	} {
		from, n := inside(big[x.from:x.to])
		if n == 0 && x.n == 0 {
			continue
		}
		if uintptr(from) != base+uintptr(x.begin) || int(n) != x.n {
			t.Errorf("%d to %d: %d bytes from %d on", x.from, x.to, n, uintptr(from)-base)
		}
	}
	if _, n := inside(nil); n != 0 {
		t.Errorf("nil: %d", n)
	}
}

// What is advised is memory like any other, and room on the heap is free again.
func TestHeap(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	Heap(64 << 20)
	runtime.ReadMemStats(&after)
	if kept := int64(after.HeapAlloc) - int64(before.HeapAlloc); kept > 8<<20 {
		t.Errorf("%d bytes are still taken", kept)
	}
	b := make([]byte, 3*Size)
	Advise(b)
	for i := range b {
		if b[i] != 0 {
			t.Fatalf("byte %d is %d", i, b[i])
		}
		b[i] = byte(i)
	}
	for i := range b {
		if b[i] != byte(i) {
			t.Fatalf("byte %d is %d", i, b[i])
		}
	}
}
