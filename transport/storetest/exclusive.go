package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"
)

// Nothing that exists is ever replaced.
var exclusiveTests = []test{
	{"an existing file", func(b *bench) {
		b.put(name, []byte("first"))
		b.is(b.s.Put(b.ctx, name, source([]byte("second"))), fs.ErrExist)
		b.holds(name, []byte("first"))
		b.noTemp()
	}},
	{"the same content", func(b *bench) {
		b.put(name, []byte("first"))
		b.is(b.s.Put(b.ctx, name, source([]byte("first"))), fs.ErrExist)
		b.holds(name, []byte("first"))
	}},
	{"an existing file without content", func(b *bench) {
		b.put(name, nil)
		b.is(b.s.Put(b.ctx, name, source([]byte("second"))), fs.ErrExist)
		b.holds(name, nil)
	}},
	{"made since Put began", func(b *bench) {
		src := source([]byte("late"))
		src.Confirm = func() error {
			b.put(name, []byte("first"))
			return nil
		}
		b.is(b.s.Put(b.ctx, name, src), fs.ErrExist)
		b.holds(name, []byte("first"))
		b.noTemp()
	}},
	{"an existing folder", func(b *bench) {
		b.ok(b.s.Mkdir(b.ctx, name))
		b.not(b.s.Put(b.ctx, name, source([]byte("x"))), fs.ErrExist)
		if got := b.list(name); len(got) != 0 {
			b.Fatalf("in the folder: %q", got)
		}
		b.noTemp()
	}},
	{"read while a second Put is refused", func(b *bench) {
		b.put(name, random(300<<10, 1))
		f, err := b.s.Open(b.ctx, name)
		b.ok(err)
		defer f.Close()
		b.is(b.s.Put(b.ctx, name, source(random(300<<10, 2))), fs.ErrExist)
		b.holds(name, random(300<<10, 1))
	}},
	{"one of many", func(b *bench) {
		const n = 6
		for round := range 3 {
			name := fmt.Sprintf("%s/round%d", folder, round)
			content := func(i int) []byte { return random(100_000+i, byte(i)) }

			// All meet in Confirm, so that they publish together. A store that
			// stores one file after the other is let through in the end.
			var here, all sync.WaitGroup
			here.Add(n)
			met := make(chan struct{})
			go func() { here.Wait(); close(met) }()
			errs := make([]error, n)
			for i := range n {
				all.Go(func() {
					src := source(content(i))
					src.Confirm = func() error {
						here.Done()
						select {
						case <-met:
						case <-time.After(2 * time.Second):
						}
						return nil
					}
					errs[i] = b.s.Put(b.ctx, name, src)
				})
			}
			all.Wait()

			winner := slices.Index(errs, nil)
			if winner < 0 {
				b.Fatalf("nobody stored it: %v", errors.Join(errs...))
			}
			racer, ok := b.s.(Racer)
			races := ok && racer.Races()
			if races {
				winner = b.oneOf(name, errs, content)
			}
			for i, err := range errs {
				if i != winner && !errors.Is(err, fs.ErrExist) && !(races && err == nil) {
					b.Errorf("put %d: got %v beside a nil, want an error that is %q", i, err, fs.ErrExist)
				}
			}
			b.holds(name, content(winner))
		}
		b.noTemp()
	}},
}

// oneOf returns whose content the file name holds, of those whose error is nil.
func (b *bench) oneOf(name string, errs []error, content func(int) []byte) int {
	b.Helper()
	got, err := b.read(name)
	b.ok(err)
	for i, err := range errs {
		if err == nil && bytes.Equal(got, content(i)) {
			return i
		}
	}
	b.Fatalf("%s holds %s, which nobody has stored", name, digest(got))
	return -1
}
