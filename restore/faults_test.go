package restore

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"walship/internal/basebackup"
	"walship/internal/stored"
)

// Single random faults in a stored backup: a bit, a cut, zeros, a piece of
// another file, another file, none. Either the very same tree comes back, or an
// error, and then nothing that a server would start in.
func TestRandomFaults(t *testing.T) {
	for _, codec := range []stored.Codec{stored.Zstd, stored.Gzip, stored.Plain, stored.Zstd.Sealed()} {
		s := newSite(t, fifteen)
		s.segments(1, 6, 7, noon)
		m := s.backup(aBackup{start: "0/6000028", end: "0/6000100", codec: codec,
			more: []anEntry{aFile("base/1/2619", strings.Repeat("statistics", 9000)), aFile("base/1/2620", "x")}})
		o := s.options()
		if _, _, err := s.restore(o); err != nil {
			t.Fatal(err)
		}
		sound := treeOf(t, o.Dir)
		var names []string
		for _, name := range s.store.Names() {
			if strings.HasPrefix(name, basebackup.Folder(s.cluster(), m.ID())+"/") {
				names = append(names, name)
			}
		}
		r := rand.New(rand.NewPCG(11, 22))
		harmless := 0
		for i := range 70 {
			name := names[i%len(names)]
			file, _ := s.store.Bytes(name)
			bad := slices.Clone(file)
			at := r.IntN(len(bad))
			what := ""
			switch kind := r.IntN(6); kind {
			case 0, 1:
				bad[at] ^= 1 << r.IntN(8)
				what = fmt.Sprintf("a bit of byte %d", at)
			case 2:
				bad = bad[:at]
				what = fmt.Sprintf("cut to %d", at)
			case 3:
				clear(bad[at:min(at+512, len(bad))])
				what = fmt.Sprintf("zeros at %d", at)
			case 4:
				other, _ := s.store.Bytes(names[r.IntN(len(names))])
				bad = other
				what = "another file"
			case 5:
				copy(bad[at:], file[r.IntN(len(file)):])
				what = fmt.Sprintf("shifted at %d", at)
			}
			s.plant(name, bad)
			o := s.options()
			_, _, err := s.restore(o)
			if err == nil {
				harmless++
				o.Backup = ""
				if got := treeOf(t, o.Dir); !maps.Equal(got, sound) {
					t.Fatalf("%s, %s, %s: a silent wrong restore: %v, want %v", codec, filepath.Base(name), what, got, sound)
				}
				if !slices.Equal(bad, file) && codec != stored.Gzip {
					t.Errorf("%s, %s, %s: unnoticed", codec, filepath.Base(name), what)
				}
			} else {
				s.unfinished(o, what)
			}
			s.plant(name, file)
		}
		if harmless > 30 {
			t.Errorf("%s: %d of 70 faults were none", codec, harmless)
		}
	}
}
