package storetest

import (
	"io"
	"slices"
	"sort"
	"time"

	"walship/transport"
)

const (
	tmp   = cluster + "/tmp"
	stale = "000000010000000000000007.zst.0123456789abcdef.tmp"
	young = "000000010000000000000008.zst.fedcba9876543210.tmp"
)

// others are names that no Put gives to a temporary file.
var others = []string{
	"file.tmp",
	"file.0123456789abcde.tmp",
	"file.0123456789abcdeg.tmp",
	"file-0123456789abcdef.tmp",
	"file.0123456789abcdef.tmp.zst",
	"file.0123456789abcdef",
	"000000010000000000000007.zst",
}

var sweepTests = []test{
	{"what is older", func(b *bench) {
		b.ok(b.s.Mkdir(b.ctx, tmp))
		all := append([]string{stale, young}, others...)
		for _, base := range all {
			b.plant(tmp+"/"+base, []byte("x"))
		}
		sort.Strings(all)

		n, err := b.s.Sweep(b.ctx, tmp, 24*time.Hour)
		b.ok(err)
		if got := b.list(tmp); n != 0 || !slices.Equal(got, all) {
			b.Fatalf("swept %d young files, left %q", n, got)
		}

		want, swept, age := others, 2, -time.Hour
		if a, ok := b.s.(Ager); ok {
			for _, base := range all {
				if base != young {
					b.ok(a.Age(tmp+"/"+base, 25*time.Hour))
				}
			}
			b.ok(a.Age(tmp+"/"+young, 23*time.Hour))
			want, swept, age = append([]string{young}, others...), 1, 24*time.Hour
		}
		want = slices.Sorted(slices.Values(want))
		n, err = b.s.Sweep(b.ctx, tmp, age)
		b.ok(err)
		if got := b.list(tmp); n != swept || !slices.Equal(got, want) {
			b.Fatalf("swept %d, want %d; left %q, want %q", n, swept, got, want)
		}
	}},
	{"a folder stays", func(b *bench) {
		b.ok(b.s.Mkdir(b.ctx, tmp+"/"+stale))
		n, err := b.s.Sweep(b.ctx, tmp, -time.Hour)
		b.ok(err)
		if got := b.list(tmp); n != 0 || !slices.Equal(got, []string{stale}) {
			b.Fatalf("swept %d, left %q", n, got)
		}
	}},
	{"the file of a Put under way", func(b *bench) {
		b.ok(b.s.Put(b.ctx, name, transport.Source{Write: func(w io.WriterAt) error {
			if len(b.list(tmp)) != 1 {
				b.Errorf("in %s during a Put: %q", tmp, b.list(tmp))
			}
			n, err := b.s.Sweep(b.ctx, tmp, 24*time.Hour)
			if n != 0 || err != nil {
				b.Errorf("swept %d, %v", n, err)
			}
			return write(w, []byte("x"), 0, 1)
		}}))
		b.holds(name, []byte("x"))
	}},
	{"what a Put leaves when it dies", func(b *bench) {
		// Its temporary file is one that Sweep knows.
		b.is(b.s.Put(b.ctx, name, transport.Source{Write: func(io.WriterAt) error {
			n, err := b.s.Sweep(b.ctx, tmp, -time.Hour)
			if n != 1 || err != nil {
				b.Errorf("swept %d, %v, want 1", n, err)
			}
			return errTest
		}}), errTest)
	}},
}
