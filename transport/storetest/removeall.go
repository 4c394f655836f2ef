package storetest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

// RemoveAll is one step, "remove", for each file and one, "remove.sync", at the
// end. If it fails at one although applied, that file is gone.
func (m *Memory) RemoveAll(ctx context.Context, names []string) (gone int, err error) {
	for _, name := range names {
		if err := validFile("remove", name); err != nil {
			return gone, err
		}
		err := m.step(ctx, "remove", name, func() error {
			if n := m.nodes[name]; n != nil && n.dir {
				return wrong("remove", name, syscall.EISDIR)
			}
			delete(m.nodes, name)
			return nil
		})
		if err != nil {
			return gone, err
		}
		gone++
	}
	return gone, m.step(ctx, "remove.sync", ".", func() error { return nil })
}

var removeAllTests = []test{
	{"many, in several folders", func(b *bench) {
		var names []string
		for i := range 600 {
			if i%200 == 0 {
				b.ok(b.s.Mkdir(b.ctx, fmt.Sprintf("%s/%d", cluster, i/200)))
			}
			names = append(names, fmt.Sprintf("%s/%d/%03d", cluster, i/200, i))
			b.plant(names[i], []byte("x"))
		}
		b.plant(cluster+"/0/stays", []byte("y"))
		gone, err := b.s.RemoveAll(b.ctx, names)
		b.ok(err)
		left := len(b.list(cluster+"/1")) + len(b.list(cluster+"/2"))
		if got := b.list(cluster + "/0"); gone != 600 || left != 0 || len(got) != 1 {
			b.Fatalf("%d are gone; left %d and %q", gone, left, got)
		}
		b.holds(cluster+"/0/stays", []byte("y"))
	}},
	{"none, and absent ones", func(b *bench) {
		gone, err := b.s.RemoveAll(b.ctx, nil)
		b.ok(err)
		b.put(name, []byte("x"))
		more, err := b.s.RemoveAll(b.ctx, []string{cluster + "/a", name, "no/folder/x", name})
		b.ok(err)
		if gone != 0 || more != 4 {
			b.Fatalf("%d and %d are gone", gone, more)
		}
		b.absent(name)
	}},
	{"a folder among them", func(b *bench) {
		b.put(cluster+"/a/file", []byte("x"))
		b.ok(b.s.Mkdir(b.ctx, cluster+"/a/empty"))
		_, err := b.s.RemoveAll(b.ctx, []string{cluster + "/a/file", cluster + "/a/empty"})
		b.not(err, fs.ErrNotExist)
		if got := b.list(cluster + "/a"); len(got) != 1 || got[0] != "empty" {
			b.Fatalf("left %q", got)
		}
	}},
	{"in the order given", func(b *bench) {
		b.ok(b.s.Mkdir(b.ctx, cluster+"/a/folder"))
		b.put(cluster+"/a/folder/x", []byte("x")) // so that it cannot be removed
		names := []string{cluster + "/a/first", cluster + "/a/folder"}
		b.put(names[0], []byte("x"))
		for i := range 1000 {
			names = append(names, fmt.Sprintf("%s/a/%04d", cluster, i))
			b.plant(names[len(names)-1], []byte("x"))
		}
		_, err := b.s.RemoveAll(b.ctx, names)
		b.not(err, fs.ErrNotExist)
		b.absent(names[0])
		b.holds(names[len(names)-1], []byte("x"))
	}},
	{"names, and a context that has ended", func(b *bench) {
		for _, bad := range []string{"", ".", "/etc", "../x", "a//b", "a/"} {
			_, err := b.s.RemoveAll(b.ctx, []string{bad})
			b.is(err, fs.ErrInvalid)
		}
		b.put(name, []byte("x"))
		ctx, cancel := context.WithCancelCause(b.ctx)
		cancel(errTest)
		if _, err := b.s.RemoveAll(ctx, []string{name}); !errors.Is(err, errTest) && !errors.Is(err, context.Canceled) {
			b.Fatalf("got %v", err)
		}
		b.holds(name, []byte("x"))
	}},
}
