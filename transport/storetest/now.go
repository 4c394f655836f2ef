package storetest

import (
	"io/fs"
	"time"
)

var nowTests = []test{
	// The clock is the one that stamps the files.
	{"between two files", func(b *bench) {
		const slack = 2 * time.Second // SFTP tells whole seconds
		b.put(cluster+"/before", []byte("x"))
		now, err := b.s.Now(b.ctx, cluster)
		b.ok(err)
		b.put(cluster+"/after", []byte("x"))
		before, after := b.modified(cluster, "before"), b.modified(cluster, "after")
		if now.Before(before.Add(-slack)) || now.After(after.Add(slack)) {
			b.Fatalf("it is %v, between %v and %v", now, before, after)
		}
	}},
	{"leaves nothing", func(b *bench) {
		b.ok(b.s.Mkdir(b.ctx, cluster+"/empty"))
		for _, dir := range []string{cluster + "/empty", "."} {
			_, err := b.s.Now(b.ctx, dir)
			b.ok(err)
		}
		if left := append(b.list(cluster+"/empty"), b.list(".")...); len(left) != 1 {
			b.Fatalf("left %q", left)
		}
	}},
	{"absent", func(b *bench) {
		_, err := b.s.Now(b.ctx, cluster+"/absent")
		b.is(err, fs.ErrNotExist)
		if got := b.list(cluster); len(got) != 0 {
			b.Fatalf("made %q", got)
		}
	}},
	{"a file", func(b *bench) {
		b.put(cluster+"/file", []byte("x"))
		_, err := b.s.Now(b.ctx, cluster+"/file")
		b.not(err)
	}},
}
