package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"testing/iotest"
)

var readTests = []test{
	{"absent", func(b *bench) {
		b.put(name, []byte("x"))
		for _, absent := range []string{folder + "/absent", cluster + "/no/folder", "nothing/here", "nothing"} {
			_, err := b.s.Open(b.ctx, absent)
			b.is(err, fs.ErrNotExist)
			_, err = b.s.Head(b.ctx, absent, 10)
			b.is(err, fs.ErrNotExist)
		}
	}},
	{"a folder", func(b *bench) {
		_, err := b.s.Open(b.ctx, cluster)
		b.not(err, fs.ErrNotExist)
		_, err = b.s.Head(b.ctx, cluster, 10)
		b.not(err, fs.ErrNotExist)
	}},
	{"head", func(b *bench) {
		for _, size := range []int{0, 1, 500, 300 << 10, 5 << 20} {
			data := random(size, 1)
			name := fmt.Sprintf("%s/%d", folder, size)
			b.put(name, data)
			for _, n := range []int{0, 1, 499, 500, 501, 4096, 32<<10 + 1, 1 << 20} {
				h, err := b.s.Head(b.ctx, name, n)
				b.ok(err)
				if want := data[:min(n, size)]; h.Size != int64(size) || !bytes.Equal(h.Data, want) {
					b.Fatalf("first %d of %d bytes: got size %d, %s, want %s", n, size, h.Size, digest(h.Data), digest(want))
				}
			}
		}
	}},
	{"in small pieces, past the end", func(b *bench) {
		data := random(5000, 2)
		b.put(name, data)
		f, err := b.s.Open(b.ctx, name)
		b.ok(err)
		got, err := io.ReadAll(iotest.OneByteReader(f))
		b.ok(err)
		if !bytes.Equal(got, data) {
			b.Fatalf("read %s, want %s", digest(got), digest(data))
		}
		for range 2 {
			if n, err := f.Read(make([]byte, 10)); n != 0 || err != io.EOF {
				b.Fatalf("at the end: %d, %v, want 0, EOF", n, err)
			}
		}
		b.ok(f.Close())
	}},
	{"closed before the end", func(b *bench) {
		b.put(name, random(5<<20, 3))
		for range 3 {
			f, err := b.s.Open(b.ctx, name)
			b.ok(err)
			_, err = io.ReadFull(f, make([]byte, 10))
			b.ok(err)
			b.ok(f.Close())
		}
		b.holds(name, random(5<<20, 3))
	}},
	{"several at once", func(b *bench) {
		const n = 6
		for i := range n {
			b.put(fmt.Sprintf("%s/%d", folder, i), random(200_000+i, byte(i)))
		}
		var all sync.WaitGroup
		errs := make([]error, n)
		for i := range n {
			all.Go(func() {
				got, err := b.read(fmt.Sprintf("%s/%d", folder, i))
				if err == nil && !bytes.Equal(got, random(200_000+i, byte(i))) {
					err = fmt.Errorf("file %d holds %s", i, digest(got))
				}
				errs[i] = err
			})
		}
		all.Wait()
		b.ok(errors.Join(errs...))
	}},
}
