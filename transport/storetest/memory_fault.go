package storetest

import (
	"bytes"
	"context"
	"io"
	"sync/atomic"
)

// Step is one effect of an operation on a Memory, before it takes place.
type Step struct {
	N    int    // counted from 0 since the last call of Hook or Fail
	Op   string // as named at the method
	Name string // the file or folder, as the caller named it
}

// Fault is what becomes of a step.
type Fault struct {
	Err     error // nil: the step goes well
	Applied bool  // it fails with Err, but has taken effect all the same
}

// Hook lets hook decide about each step from now on; nil ends this. It may be
// called from several goroutines, and may itself use Plant, Bytes, Names and Age
// to play another process. A step whose own context has ended is not asked for.
func (m *Memory) Hook(hook func(Step) Fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.steps, m.hook = 0, hook
}

// Fail makes the n-th step from now on fail, the next one being 0, and returns
// a function that reports whether it was reached. So a test fails step 0, 1, 2 …
// until the call under test takes fewer:
//
//	for n := 0; ; n++ {
//		m := …
//		reached := m.Fail(n, storetest.Fault{Err: err})
//		…
//		if !reached() {
//			break
//		}
//	}
func (m *Memory) Fail(n int, f Fault) (reached func() bool) {
	var hit atomic.Bool
	m.Hook(func(s Step) Fault {
		if s.N != n {
			return Fault{}
		}
		hit.Store(true)
		return f
	})
	return hit.Load
}

// next counts a step and asks the hook about it.
func (m *Memory) next(op, name string) Fault {
	m.mu.Lock()
	step, hook := Step{N: m.steps, Op: op, Name: name}, m.hook
	m.steps++
	m.mu.Unlock()
	if hook == nil {
		return Fault{}
	}
	return hook(step)
}

// step runs apply, with the lock held, unless ctx or the hook says otherwise.
func (m *Memory) step(ctx context.Context, op, name string, apply func() error) error {
	if err := ctx.Err(); err != nil {
		return wrong(op, name, err)
	}
	f := m.next(op, name)
	if f.Err != nil && !f.Applied {
		return f.Err
	}
	m.mu.Lock()
	err := apply()
	m.mu.Unlock()
	if f.Err != nil {
		return f.Err
	}
	return err
}

// memoryFile is an open file of a Memory.
type memoryFile struct {
	ctx   context.Context // of Open
	store *Memory
	name  string
	size  int64
	rest  *bytes.Reader
	begun bool
	err   error // what the reads end with, if not nil
}

func (f *memoryFile) Size() int64  { return f.size }
func (f *memoryFile) Close() error { return nil }

// Read is one step, "read", at the first call. If it fails although applied,
// the first half of the file is read before the error.
func (f *memoryFile) Read(p []byte) (int, error) {
	if err := f.ctx.Err(); err != nil {
		return 0, wrong("read", f.name, err)
	}
	if !f.begun {
		f.begun = true
		fault := f.store.next("read", f.name)
		if f.err = fault.Err; f.err != nil {
			half := make([]byte, f.size/2)
			if !fault.Applied {
				half = nil
			}
			_, _ = io.ReadFull(f.rest, half)
			f.rest.Reset(half)
		}
	}
	n, err := f.rest.Read(p)
	if err == io.EOF && f.err != nil {
		err = f.err
	}
	return n, err
}
