package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"sort"
	"testing"
	"time"

	"walship/transport"
)

// bench is what one test works with.
type bench struct {
	*testing.T
	ctx context.Context
	s   Store
}

func (b *bench) ok(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// is demands that err is want.
func (b *bench) is(err, want error) {
	b.Helper()
	if !errors.Is(err, want) {
		b.Fatalf("got error %v, want one that is %q", err, want)
	}
}

// not demands an error that is none of others.
func (b *bench) not(err error, others ...error) {
	b.Helper()
	if err == nil {
		b.Fatal("got no error")
	}
	for _, other := range others {
		if errors.Is(err, other) {
			b.Fatalf("got error %v, which must not be %q", err, other)
		}
	}
}

// random returns n bytes that depend on n and seed alone.
func random(n int, seed byte) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed, byte(n)}).Read(data)
	return data
}

// source is a Source of data. It overwrites the buffer after each write, for a
// store must not keep it.
func source(data []byte) transport.Source {
	return transport.Source{Write: func(w io.WriterAt) error { return write(w, data, 0, len(data)) }}
}

// write writes data[from:to] in pieces.
func write(w io.WriterAt, data []byte, from, to int) error {
	buf := make([]byte, 100_000)
	for from < to {
		n := copy(buf, data[from:to])
		if m, err := w.WriteAt(buf[:n], int64(from)); err != nil {
			return err
		} else if m != n {
			return fmt.Errorf("wrote %d of %d bytes", m, n)
		}
		clear(buf)
		from += n
	}
	return nil
}

func (b *bench) put(name string, data []byte) {
	b.Helper()
	b.ok(b.s.Put(b.ctx, name, source(data)))
}

// plant makes a file without caring how. Its folder exists.
func (b *bench) plant(name string, data []byte) {
	b.Helper()
	if p, ok := b.s.(Planter); ok {
		b.ok(p.Plant(name, data))
	} else {
		b.put(name, data)
	}
}

// holds demands that the file name has this content.
func (b *bench) holds(name string, want []byte) {
	b.Helper()
	got, err := b.read(name)
	b.ok(err)
	if !bytes.Equal(got, want) {
		b.Fatalf("%s holds %s, want %s", name, digest(got), digest(want))
	}
}

// absent demands that there is no file name.
func (b *bench) absent(name string) {
	b.Helper()
	_, err := b.read(name)
	b.is(err, fs.ErrNotExist)
}

// read returns the content of a file and checks its size.
func (b *bench) read(name string) ([]byte, error) {
	f, err := b.s.Open(b.ctx, name)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(f)
	if err == nil && f.Size() != int64(len(data)) {
		err = fmt.Errorf("%s: size %d, but %d bytes read", name, f.Size(), len(data))
	}
	return data, errors.Join(err, f.Close())
}

// digest tells contents apart in messages.
func digest(data []byte) string {
	return fmt.Sprintf("%d bytes, %x…", len(data), data[:min(8, len(data))])
}

// list returns the names in dir, sorted.
func (b *bench) list(dir string) []string {
	b.Helper()
	var names []string
	b.ok(b.s.List(b.ctx, dir, func(i transport.FileInfo) error {
		names = append(names, i.Name)
		return nil
	}))
	sort.Strings(names)
	return names
}

// modified is when the entry of dir was last modified.
func (b *bench) modified(dir, base string) (at time.Time) {
	b.Helper()
	b.ok(b.s.List(b.ctx, dir, func(i transport.FileInfo) error {
		if i.Name == base {
			at = i.ModTime
		}
		return nil
	}))
	return at
}

// noTemp demands that no temporary file is left.
func (b *bench) noTemp() {
	b.Helper()
	for _, dir := range []string{cluster + "/tmp", "tmp"} {
		err := b.s.List(b.ctx, dir, func(i transport.FileInfo) error {
			return fmt.Errorf("left in %s: %s, %d bytes", dir, i.Name, i.Size)
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			b.Fatal(err)
		}
	}
}
