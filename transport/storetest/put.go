package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"walship/transport"
)

var errTest = errors.New("an error of the test's own")

var putTests = []test{
	{"sizes", func(b *bench) {
		const packet = 32 << 10 // of SFTP
		for _, n := range []int{0, 1, packet - 1, packet, packet + 1, 2*packet - 1, 2 * packet, 300 << 10, 5<<20 + 3} {
			name := fmt.Sprintf("%s/%d", folder, n)
			b.put(name, random(n, 1))
			b.holds(name, random(n, 1))
		}
		b.noTemp()
	}},
	{"out of order in several goroutines", func(b *bench) {
		data := random(5<<20+12345, 2)
		const workers, piece = 4, 70_001
		b.ok(b.s.Put(b.ctx, name, transport.Source{Write: func(w io.WriterAt) error {
			var all sync.WaitGroup
			errs := make([]error, workers)
			for i := range workers {
				all.Go(func() {
					// Each from the end, every fourth piece.
					for p := len(data) / piece; p >= 0; p-- {
						if p%workers == i && errs[i] == nil {
							errs[i] = write(w, data, p*piece, min((p+1)*piece, len(data)))
						}
					}
				})
			}
			all.Wait()
			return errors.Join(errs...)
		}}))
		b.holds(name, data)
	}},
	{"one write for all", func(b *bench) {
		data := random(1<<20, 3)
		b.ok(b.s.Put(b.ctx, name, transport.Source{Write: func(w io.WriterAt) error {
			_, err := w.WriteAt(data, 0)
			return err
		}}))
		b.holds(name, data)
	}},
	{"a name without a folder", func(b *bench) {
		b.put("walship.json", []byte("{}"))
		b.holds("walship.json", []byte("{}"))
		b.noTemp()
	}},
	{"missing folders are made", func(b *bench) {
		b.put(cluster+"/a/b/c/d/file", []byte("deep"))
		b.holds(cluster+"/a/b/c/d/file", []byte("deep"))
	}},
	{"a missing top folder is not made", func(b *bench) {
		err := b.s.Put(b.ctx, "unmounted/wal/file", source([]byte("x")))
		b.is(err, fs.ErrNotExist)
		b.is(b.s.List(b.ctx, "unmounted", func(transport.FileInfo) error { return nil }), fs.ErrNotExist)
	}},
	{"a file in the place of a folder", func(b *bench) {
		b.put(cluster+"/file", []byte("x"))
		b.not(b.s.Put(b.ctx, cluster+"/file/below", source([]byte("y"))), fs.ErrExist)
		b.holds(cluster+"/file", []byte("x"))
		b.noTemp()
	}},
	{"nothing is seen before it is whole", func(b *bench) {
		steps := ""
		b.ok(b.s.Put(b.ctx, name, transport.Source{
			Write: func(w io.WriterAt) error {
				b.absent(name)
				err := write(w, []byte("content"), 0, 7)
				b.absent(name)
				steps += "write "
				return err
			},
			Confirm: func() error {
				b.absent(name)
				steps += "confirm"
				return nil
			},
		}))
		if steps != "write confirm" {
			b.Fatalf("steps: %s", steps)
		}
		b.holds(name, []byte("content"))
	}},
	{"a reader sees all or nothing", func(b *bench) {
		data := random(300<<10, 4)
		for i := range 5 {
			name := fmt.Sprintf("%s/%d", folder, i)
			done := make(chan error, 1)
			go func() { done <- b.s.Put(b.ctx, name, source(data)) }()
			for put := false; !put; {
				select {
				case err := <-done:
					b.ok(err)
					put = true
				default:
				}
				got, err := b.read(name)
				if errors.Is(err, fs.ErrNotExist) && !put {
					continue
				}
				b.ok(err)
				if !bytes.Equal(got, data) {
					b.Fatalf("saw %s of %s", digest(got), digest(data))
				}
			}
		}
	}},
	{"an error of Write", func(b *bench) {
		b.refused(transport.Source{Write: func(w io.WriterAt) error {
			return errors.Join(write(w, random(100_000, 5), 0, 100_000), fmt.Errorf("reading: %w", errTest))
		}, Confirm: func() error {
			b.Error("Confirm was asked all the same")
			return nil
		}}, errTest)
	}},
	{"an error of Write at once", func(b *bench) {
		b.refused(transport.Source{Write: func(io.WriterAt) error { return errTest }}, errTest)
	}},
	{"an error of Confirm", func(b *bench) {
		src := source([]byte("content"))
		src.Confirm = func() error { return fmt.Errorf("changed: %w", errTest) }
		b.refused(src, errTest)
	}},
	{"cancelled during Write", func(b *bench) {
		ctx, cancel := context.WithCancel(b.ctx)
		defer cancel()
		err := b.s.Put(ctx, name, transport.Source{Write: func(w io.WriterAt) error {
			err := write(w, []byte("content"), 0, 7)
			cancel()
			return err
		}})
		b.is(err, context.Canceled)
		b.absent(name)
		b.put(name, []byte("again"))
		b.holds(name, []byte("again"))
	}},
	{"cancelled during Confirm", func(b *bench) {
		ctx, cancel := context.WithCancel(b.ctx)
		defer cancel()
		src := source([]byte("content"))
		src.Confirm = func() error { cancel(); return nil }
		if err := b.s.Put(ctx, name, src); err == nil {
			b.holds(name, []byte("content"))
		} else if got, err := b.read(name); err == nil && string(got) != "content" {
			b.Fatalf("published %q", got)
		}
	}},
	{"many names at once", func(b *bench) {
		const n = 16
		var all sync.WaitGroup
		errs := make([]error, n)
		for i := range n {
			all.Go(func() {
				errs[i] = b.s.Put(b.ctx, fmt.Sprintf("%s/new/%d", folder, i), source(random(50_000, byte(i))))
			})
		}
		all.Wait()
		b.ok(errors.Join(errs...))
		for i := range n {
			b.holds(fmt.Sprintf("%s/new/%d", folder, i), random(50_000, byte(i)))
		}
		b.noTemp()
	}},
}

// refused demands that Put of src fails with want and leaves nothing behind,
// and that a retry succeeds.
func (b *bench) refused(src transport.Source, want error) {
	b.Helper()
	err := b.s.Put(b.ctx, name, src)
	b.is(err, want)
	b.not(err, fs.ErrExist, fs.ErrNotExist)
	b.absent(name)
	b.noTemp()
	b.put(name, []byte("again"))
	b.holds(name, []byte("again"))
}
