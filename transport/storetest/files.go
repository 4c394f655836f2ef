package storetest

import (
	"io/fs"
	"slices"
	"sync"

	"walship/transport"
)

// Folders, and files that move or go.
var fileTests = []test{
	{"mkdir", func(b *bench) {
		for range 2 { // the second time it exists
			b.ok(b.s.Mkdir(b.ctx, "other/a/b"))
		}
		b.ok(b.s.Mkdir(b.ctx, "other/a"))
		b.ok(b.s.Mkdir(b.ctx, "."))
		if got := b.list("other/a"); !slices.Equal(got, []string{"b"}) {
			b.Fatalf("got %q", got)
		}
		b.put("other/a/b/file", []byte("x"))
		b.ok(b.s.Mkdir(b.ctx, "other/a/b"))
		b.holds("other/a/b/file", []byte("x"))
	}},
	{"mkdir by several at once", func(b *bench) {
		var all sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			all.Go(func() { errs[i] = b.s.Mkdir(b.ctx, cluster+"/x/y/z") })
		}
		all.Wait()
		for _, err := range errs {
			b.ok(err)
		}
	}},
	{"mkdir on a file", func(b *bench) {
		b.put(name, []byte("x"))
		b.is(b.s.Mkdir(b.ctx, name), fs.ErrExist)
		b.not(b.s.Mkdir(b.ctx, name+"/below"))
		b.holds(name, []byte("x"))
	}},
	{"move", func(b *bench) {
		b.put(name, []byte("x"))
		b.ok(b.s.Mkdir(b.ctx, cluster+"/refused"))
		b.ok(b.s.Move(b.ctx, name, cluster+"/refused/file"))
		b.absent(name)
		b.holds(cluster+"/refused/file", []byte("x"))
		b.put(name, []byte("y"))
		b.holds(name, []byte("y"))
	}},
	{"move into a new folder", func(b *bench) {
		b.put(name, []byte("x"))
		b.ok(b.s.Move(b.ctx, name, cluster+"/refused/2026/file"))
		b.holds(cluster+"/refused/2026/file", []byte("x"))
		b.is(b.s.Move(b.ctx, cluster+"/refused/2026/file", "unmounted/file"), fs.ErrNotExist)
		b.holds(cluster+"/refused/2026/file", []byte("x"))
	}},
	{"move what is absent", func(b *bench) {
		b.is(b.s.Move(b.ctx, cluster+"/absent", cluster+"/other"), fs.ErrNotExist)
		b.absent(cluster + "/other")
	}},
	{"move on a file", func(b *bench) {
		b.put(cluster+"/a", []byte("a"))
		b.put(cluster+"/b", []byte("b"))
		b.is(b.s.Move(b.ctx, cluster+"/a", cluster+"/b"), fs.ErrExist)
		b.is(b.s.Move(b.ctx, cluster+"/a", cluster+"/a"), fs.ErrExist)
		b.holds(cluster+"/a", []byte("a"))
		b.holds(cluster+"/b", []byte("b"))
	}},
	{"remove", func(b *bench) {
		b.put(name, []byte("x"))
		b.ok(b.s.Remove(b.ctx, name))
		b.absent(name)
		b.is(b.s.Remove(b.ctx, name), fs.ErrNotExist)
		b.is(b.s.Remove(b.ctx, "no/folder"), fs.ErrNotExist)
		b.put(name, []byte("y"))
		b.holds(name, []byte("y"))
	}},
	{"remove a folder", func(b *bench) {
		b.ok(b.s.Mkdir(b.ctx, cluster+"/folder"))
		b.not(b.s.Remove(b.ctx, cluster+"/folder"), fs.ErrNotExist)
		b.ok(b.s.List(b.ctx, cluster+"/folder", func(transport.FileInfo) error { return nil }))
	}},
	{"remove an empty folder", func(b *bench) {
		b.ok(b.s.Mkdir(b.ctx, cluster+"/a/b"))
		b.ok(b.s.RemoveFolder(b.ctx, cluster+"/a/b"))
		if got := b.list(cluster + "/a"); len(got) != 0 {
			b.Fatalf("left %q", got)
		}
		b.is(b.s.RemoveFolder(b.ctx, cluster+"/a/b"), fs.ErrNotExist)
		b.is(b.s.RemoveFolder(b.ctx, "no/folder"), fs.ErrNotExist)
		b.ok(b.s.RemoveFolder(b.ctx, cluster+"/a"))
		b.put(cluster+"/a/b/file", []byte("x")) // which makes them again
		b.holds(cluster+"/a/b/file", []byte("x"))
	}},
	{"remove a folder that holds something", func(b *bench) {
		b.put(name, []byte("x"))
		b.is(b.s.RemoveFolder(b.ctx, folder), fs.ErrExist)
		b.is(b.s.RemoveFolder(b.ctx, cluster), fs.ErrExist) // folders
		b.holds(name, []byte("x"))
	}},
	{"remove a file as a folder", func(b *bench) {
		b.put(name, []byte("x"))
		b.not(b.s.RemoveFolder(b.ctx, name), fs.ErrNotExist, fs.ErrExist)
		b.holds(name, []byte("x"))
		b.is(b.s.RemoveFolder(b.ctx, "."), fs.ErrInvalid)
	}},
	{"sync", func(b *bench) {
		b.put(name, []byte("x"))
		b.ok(b.s.Sync(b.ctx, name))
		b.plant(folder+"/planted", []byte("y"))
		b.ok(b.s.Sync(b.ctx, folder+"/planted"))
		b.holds(name, []byte("x"))
		b.is(b.s.Sync(b.ctx, folder+"/absent"), fs.ErrNotExist)
	}},
}
