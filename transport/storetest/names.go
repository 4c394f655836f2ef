package storetest

import (
	"io/fs"
	"strings"
	"time"

	"walship/transport"
)

var nameTests = []test{
	{"invalid", func(b *bench) {
		invalid := []string{
			"", "/", "/etc/passwd", "..", "../escape", cluster + "/../../escape", cluster + "/..",
			cluster + "//file", cluster + "/", "./file", cluster + "/./file",
			cluster + "/nul\x00", "\x00", cluster + "/\xff",
		}
		none := func(transport.FileInfo) error { return nil }
		b.put(name, []byte("x"))
		for _, bad := range invalid {
			b.is(b.s.Mkdir(b.ctx, bad), fs.ErrInvalid)
			b.is(b.s.List(b.ctx, bad, none), fs.ErrInvalid)
			_, err := b.s.Sweep(b.ctx, bad, time.Hour)
			b.is(err, fs.ErrInvalid)
			_, err = b.s.Now(b.ctx, bad)
			b.is(err, fs.ErrInvalid)
		}
		for _, bad := range append(invalid, ".") {
			b.is(b.s.Put(b.ctx, bad, source(nil)), fs.ErrInvalid)
			_, err := b.s.Open(b.ctx, bad)
			b.is(err, fs.ErrInvalid)
			_, err = b.s.Head(b.ctx, bad, 10)
			b.is(err, fs.ErrInvalid)
			b.is(b.s.Move(b.ctx, bad, cluster+"/file"), fs.ErrInvalid)
			b.is(b.s.Move(b.ctx, name, bad), fs.ErrInvalid)
			b.is(b.s.Remove(b.ctx, bad), fs.ErrInvalid)
			b.is(b.s.RemoveFolder(b.ctx, bad), fs.ErrInvalid)
			b.is(b.s.Sync(b.ctx, bad), fs.ErrInvalid)
		}
		b.holds(name, []byte("x"))
	}},
	{"unusual", func(b *bench) {
		for _, base := range []string{
			"with space", "ünïcode", "-rf", `quote'"`, `back\slash`, "new\nline", "*?[a]", "..x", ".hidden", "$HOME", "~", "#", "%41",
			strings.Repeat("x", 200),
		} {
			name := folder + "/" + base + "/" + base
			b.put(name, []byte(base))
			b.holds(name, []byte(base))
			b.ok(b.s.Sync(b.ctx, name))
			b.is(b.s.Put(b.ctx, name, source(nil)), fs.ErrExist)
			if got := b.list(folder + "/" + base); len(got) != 1 || got[0] != base {
				b.Fatalf("listed %q, want %q", got, base)
			}
			b.ok(b.s.Move(b.ctx, name, name+"2"))
			b.ok(b.s.Remove(b.ctx, name+"2"))
		}
		b.noTemp()
	}},
	{"too long", func(b *bench) {
		long := cluster + "/" + strings.Repeat("x", 1000)
		b.not(b.s.Put(b.ctx, long, source(nil)), fs.ErrExist)
		b.noTemp()
	}},
}
