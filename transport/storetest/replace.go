package storetest

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"strings"
	"sync"
)

var replaceTests = []test{
	{"TheContentIsTheNewOne", func(b *bench) {
		b.put(name, []byte("old"))
		for _, content := range []string{"new and longer", "new", ""} {
			b.ok(b.s.Replace(b.ctx, name, []byte(content)))
			b.holds(name, []byte(content))
		}
	}},
	{"WhatIsAbsentStaysSo", func(b *bench) {
		if err := b.s.Replace(b.ctx, name, []byte("new")); !errors.Is(err, fs.ErrNotExist) {
			b.Errorf("replace of an absent file: %v", err)
		}
		if _, err := b.s.Head(b.ctx, name, 1); !errors.Is(err, fs.ErrNotExist) {
			b.Errorf("after it: %v", err)
		}
	}},
	{"AFolderIsNotReplaced", func(b *bench) {
		b.ok(b.s.Mkdir(b.ctx, folder))
		if err := b.s.Replace(b.ctx, folder, []byte("new")); err == nil {
			b.Error("nil")
		}
	}},
	{"ReadersSeeOldOrNew", func(b *bench) {
		old, new := bytes.Repeat([]byte("o"), 3000), bytes.Repeat([]byte("n"), 2000)
		b.put(name, old)
		ctx, stop := context.WithCancel(b.ctx)
		var reading sync.WaitGroup
		defer reading.Wait()
		defer stop()
		for range 2 {
			reading.Go(func() {
				for ctx.Err() == nil {
					h, err := b.s.Head(b.ctx, name, 4000)
					if err != nil || !bytes.Equal(h.Data, old) && !bytes.Equal(h.Data, new) {
						b.Errorf("%d bytes, %d of them new, %v", len(h.Data), strings.Count(string(h.Data), "n"), err)
						return
					}
				}
			})
		}
		for range 20 {
			b.ok(b.s.Replace(b.ctx, name, new))
			b.ok(b.s.Replace(b.ctx, name, old))
		}
	}},
	{"NothingElseIsLeft", func(b *bench) {
		b.put(name, []byte("old"))
		b.ok(b.s.Replace(b.ctx, name, []byte("new")))
		b.noTemp()
	}},
}
