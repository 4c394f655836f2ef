package main

import (
	"context"
	"errors"
	"sync"

	"walship/restore"
	"walship/transport"
)

// reopening is an archive that is opened anew after it could not be reached, for
// calls that go on for hours.
type reopening struct {
	open func() (store, error)

	mu      sync.Mutex
	current store // nil: not open
}

var _ restore.Store = (*reopening)(nil)

func (r *reopening) get() (store, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current == nil {
		s, err := r.open()
		if err != nil {
			return nil, err
		}
		r.current = s
	}
	return r.current, nil
}

// use calls do with the archive, and gives up the connection if it is lost.
func (r *reopening) use(do func(store) error) error {
	s, err := r.get()
	if err != nil {
		return err
	}
	err = do(s)
	if errors.Is(err, transport.ErrUnreachable) {
		r.mu.Lock()
		if r.current == s {
			r.current = nil
			go func() { _ = s.Close() }() // what others still do with it fails, and is begun again
		}
		r.mu.Unlock()
	}
	return err
}

func (r *reopening) Head(ctx context.Context, name string, n int) (h transport.Head, err error) {
	err = r.use(func(s store) error { h, err = s.Head(ctx, name, n); return err })
	return h, err
}

func (r *reopening) Open(ctx context.Context, name string) (f transport.File, err error) {
	err = r.use(func(s store) error { f, err = s.Open(ctx, name); return err })
	return f, err
}

func (r *reopening) List(ctx context.Context, dir string, fn func(transport.FileInfo) error) error {
	return r.use(func(s store) error { return s.List(ctx, dir, fn) })
}

// Close ends the connection.
func (r *reopening) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current == nil {
		return nil
	}
	return r.current.Close()
}
