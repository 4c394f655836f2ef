package storetest

import (
	"fmt"
	"io/fs"
	"slices"
	"time"

	"walship/transport"
)

var listTests = []test{
	{"empty", func(b *bench) {
		if got := b.list(cluster); len(got) != 0 {
			b.Fatalf("got %q", got)
		}
	}},
	{"absent", func(b *bench) {
		none := func(i transport.FileInfo) error { return fmt.Errorf("told %q", i.Name) }
		b.is(b.s.List(b.ctx, cluster+"/absent", none), fs.ErrNotExist)
		b.is(b.s.List(b.ctx, "absent/absent", none), fs.ErrNotExist)
	}},
	{"a file", func(b *bench) {
		b.put(name, []byte("x"))
		b.not(b.s.List(b.ctx, name, func(transport.FileInfo) error { return nil }))
	}},
	{"files and folders", func(b *bench) {
		b.put(cluster+"/file", random(1234, 1))
		b.ok(b.s.Mkdir(b.ctx, cluster+"/folder"))
		got := map[string]transport.FileInfo{}
		b.ok(b.s.List(b.ctx, cluster, func(i transport.FileInfo) error {
			if age := time.Since(i.ModTime); age.Abs() > 24*time.Hour {
				b.Errorf("%s was modified %v ago", i.Name, age)
			}
			got[i.Name] = i
			return nil
		}))
		if f := got["file"]; f.IsDir || f.Size != 1234 {
			b.Errorf("file: %+v", f)
		}
		if f := got["folder"]; !f.IsDir {
			b.Errorf("folder: %+v", f)
		}
	}},
	{"the root", func(b *bench) {
		if got := b.list("."); !slices.Equal(got, []string{cluster}) {
			b.Fatalf("got %q", got)
		}
	}},
	{"2,500 entries", func(b *bench) {
		want := b.fill(2500)
		if got := b.list(cluster + "/many"); !slices.Equal(got, want) {
			b.Fatalf("got %d entries, of them %d twice, want %d", len(got), len(got)-len(slices.Compact(got)), len(want))
		}
	}},
	{"stopped", func(b *bench) {
		b.fill(700)
		for _, stop := range []struct{ told, want error }{{errTest, errTest}, {fs.SkipAll, nil}} {
			for _, after := range []int{1, 600} {
				n := 0
				err := b.s.List(b.ctx, cluster+"/many", func(transport.FileInfo) error {
					n++
					if n >= after {
						return stop.told
					}
					return nil
				})
				if stop.want == nil {
					b.ok(err)
				} else {
					b.is(err, stop.want)
				}
				if n != after {
					b.Fatalf("%d entries told after %v at %d", n, stop.told, after)
				}
			}
		}
		b.put(name, []byte("the store works on"))
	}},
}

// fill makes n files in cluster/many and returns their names, sorted.
func (b *bench) fill(n int) []string {
	b.Helper()
	b.ok(b.s.Mkdir(b.ctx, cluster+"/many"))
	names := make([]string, n)
	for i := range n {
		names[i] = fmt.Sprintf("%024X.zst", i)
		b.plant(cluster+"/many/"+names[i], nil)
	}
	return names
}
