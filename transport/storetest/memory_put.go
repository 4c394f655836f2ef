package storetest

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"sync"
	"syscall"
	"time"

	"walship/transport"
)

// Put takes these steps:
//
//	put.create   the temporary file and the missing folders
//	put.write    src.Write has run; what it wrote is in the temporary file
//	put.publish  the file has its name, or one was there before
//	put.sync     the file that has the name is on stable storage
//
// A Put that a Fault ends leaves its temporary file, as one does whose
// connection breaks. A hole in what src.Write writes is an error.
func (m *Memory) Put(ctx context.Context, name string, src transport.Source) error {
	if err := validFile("put", name); err != nil {
		return err
	}
	var temp string
	if err := m.step(ctx, "put.create", name, func() error {
		temp = m.nextTemp(name)
		if len(path.Base(temp)) > 255 {
			return wrong("put", temp, syscall.ENAMETOOLONG)
		}
		for _, dir := range []string{path.Dir(name), path.Dir(temp)} {
			if err := m.makeFolder(dir, top(name)); err != nil {
				return err
			}
		}
		m.nodes[temp] = &node{mod: time.Now()}
		return nil
	}); err != nil {
		return err
	}
	// Only what is no Fault clears the temporary file away.
	discard := func(err error) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.nodes, temp)
		return err
	}

	w := &memoryWriter{ctx: ctx}
	if err := src.Write(w); err != nil {
		return discard(err)
	}
	data, err := w.content(name)
	if err != nil {
		return discard(err)
	}
	if ctx.Err() != nil {
		return discard(wrong("put", name, ctx.Err()))
	}
	if err := m.step(ctx, "put.write", name, func() error {
		m.nodes[temp] = &node{data: data, mod: time.Now()}
		return nil
	}); err != nil {
		return err
	}
	if src.Confirm != nil {
		if err := src.Confirm(); err != nil {
			return discard(err)
		}
	}
	if ctx.Err() != nil {
		return discard(wrong("put", name, ctx.Err()))
	}

	var outcome error
	if err := m.step(ctx, "put.publish", name, func() error {
		switch n := m.nodes[name]; {
		case n != nil && n.dir:
			outcome = wrong("put", name, syscall.EISDIR)
		case n != nil:
			outcome = wrong("put", name, fs.ErrExist)
		case m.nodes[temp] == nil:
			outcome = wrong("put", temp, fs.ErrNotExist)
		default:
			m.nodes[name] = m.nodes[temp]
		}
		delete(m.nodes, temp)
		return nil
	}); err != nil {
		return err
	}
	if err := m.step(ctx, "put.sync", name, func() error { return nil }); err != nil {
		return err
	}
	return outcome
}

// memoryWriter collects what src.Write writes.
type memoryWriter struct {
	ctx context.Context

	mu      sync.Mutex
	data    []byte
	written int // bytes, those written twice counted twice
	err     error
}

func (w *memoryWriter) WriteAt(p []byte, off int64) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.ctx.Err()
	if off < 0 {
		err = fmt.Errorf("write at %d: %w", off, fs.ErrInvalid)
	}
	if err != nil {
		if w.err == nil {
			w.err = err
		}
		return 0, err
	}
	if end := int(off) + len(p); end > len(w.data) {
		w.data = slices.Grow(w.data, end-len(w.data))[:end]
	}
	w.written += copy(w.data[off:], p)
	return len(p), nil
}

// content returns what was written, or the first error of a write.
func (w *memoryWriter) content(name string) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil && w.written < len(w.data) {
		w.err = fmt.Errorf("%s: only %d of %d bytes were written", name, w.written, len(w.data))
	}
	return w.data, w.err
}
