package restore

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"walship/internal/layout"
	"walship/internal/pgdata"
	"walship/internal/stored"
	"walship/transport"
	"walship/transport/storetest"
)

// Only an archive that has shown itself to be this cluster's may say that a file
// is not there.
func TestWhoMaySayNotThere(t *testing.T) {
	s := newSite(t, small)
	c := s.cluster()
	own, _ := s.store.Bytes(c.IdentityFile())
	foreign := layout.Identity{SystemID: 7, SegmentSize: 1 << 20, Codec: "zstd"}.Marshal()
	seg, theirs := fixture(t, small, seg7), bytes.Clone(fixture(t, small, seg7))
	theirs[24]++
	plain := "000000010000000000000005" // before the one asked for: no hole
	for _, x := range []struct {
		what  string
		files map[string][]byte // nil: the root is absent
		says  string            // "" if it may say so
		sure  bool              // with no data directory too
	}{
		{"the root is absent", nil, "its folder does not exist", true},
		{"the root is empty", map[string][]byte{}, "its folder is empty", true},
		{"an archive", map[string][]byte{c.IdentityFile(): own, c.WAL() + "/x": nil, c.Histories() + "/x": nil}, "", true},
		{"two clusters' archive", map[string][]byte{c.IdentityFile(): own, c.WAL() + "/x": nil, c.Histories() + "/x": nil, "7/walship.json": foreign}, "", false},
		{"an archive without its folders", map[string][]byte{c.IdentityFile(): own}, "is missing", true},
		{"another cluster's", map[string][]byte{"7/walship.json": foreign}, "it holds cluster 7 and nothing of cluster " + c.Folder(), false},
		{"another's identity", map[string][]byte{c.IdentityFile(): foreign}, "it is that of cluster 7", true},
		{"an empty identity", map[string][]byte{c.IdentityFile(): nil}, "not whole", true},
		{"a torn identity", map[string][]byte{c.IdentityFile(): own[:40]}, "not whole", true},
		{"no identity", map[string][]byte{c.Folder() + "/wal/x": nil}, "walship.json is missing", true},
		{"no identity beside a flat folder", map[string][]byte{c.Folder() + "/wal/x": nil, plain: seg}, "walship.json is missing", true},
		{"something else", map[string][]byte{"lost+found/x": nil, "notes.txt": nil}, "neither", true},
		{"only a history", map[string][]byte{"00000002.history": fixture(t, small, fork2)}, "neither", true},
		{"a flat folder", map[string][]byte{plain: seg}, "", true},
		{"a flat folder of zstd", map[string][]byte{plain + ".zst": s.encoded(plain, seg, stored.Zstd)}, "", true},
		{"another cluster's flat folder", map[string][]byte{plain: theirs}, "is of cluster", false},
		{"a flat folder of torn files", map[string][]byte{plain: nil}, "none of its segments", false},
		{"a flat folder with a torn file", map[string][]byte{plain: nil, "000000010000000000000004": seg}, "", false},
		{"a flat folder of zeros", map[string][]byte{plain: make([]byte, 1<<20)}, "none of its segments", false},
	} {
		root := t.TempDir()
		for name, content := range x.files {
			write(t, filepath.Join(root, name), content)
		}
		if x.files == nil {
			if err := os.Remove(root); err != nil {
				t.Fatal(err)
			}
		}
		f := *s.Fetcher // what the last one has begun may still be under way
		f.Store = transport.NewLocal(root, transport.Full)
		s.Fetcher = &f
		for _, mode := range modes {
			for _, name := range []string{seg6, "00000009.history"} {
				err := s.fetch(name, mode)
				if x.says == "" {
					if !errors.Is(err, ErrNotThere) {
						t.Errorf("%s, %s, %s: %v", x.what, mode, name, err)
					}
					s.untouched()
					continue
				}
				s.doubt(x.what+", "+mode.String(), err, ErrArchive, x.says)
			}
		}
		err := s.Fetch(t.Context(), Request{Name: seg6, Path: s.path()})
		if x.sure && errors.Is(err, ErrNotThere) != (x.says == "") {
			t.Errorf("%s, no data directory: %v", x.what, err)
		}
	}
}

// Without a data directory the archive must hold one cluster, or it must be said
// which one is meant.
func TestNoDataDirectory(t *testing.T) {
	s := newSite(t, small)
	content := fixture(t, small, seg6)
	s.archive(seg6, content, stored.Zstd)
	s.delivered(s.Fetch(t.Context(), Request{Name: seg6, Path: s.path()}), content)
	s.plant("7/walship.json", nil)
	write(t, s.path(), old)
	err := s.Fetch(t.Context(), Request{Name: seg6, Path: s.path()})
	s.doubt("two clusters", err, ErrArchive, "2 clusters")
	if !strings.Contains(transport.Hint(err), "-D") {
		t.Errorf("hint %q", transport.Hint(err))
	}
}

// Whatever step of the store fails: delivered is delivered whole, a file that is
// there is never "not there", and one that is not is so only if nobody failed
// who was asked.
func TestFetchFaults(t *testing.T) {
	content, history := fixture(t, small, seg6), fixture(t, small, fork2)
	fails := errors.New("the line is dead")
	for _, c := range []struct {
		what, name string
		content    []byte // nil: it is not there
		prepare    func(*site)
	}{
		{"a segment", seg6, content, func(s *site) { s.archive(seg6, content, stored.Zstd) }},
		{"a history", fork2, history, func(s *site) { s.archive(fork2, history, stored.Gzip) }},
		{"a segment before a fork", seg6, content, func(s *site) { s.archive(seg6, content, stored.Plain); s.archive(fork2, history, stored.Zstd) }},
		{"a flat segment", seg6, content, func(s *site) {
			s.flat()
			s.plant(seg6, content)
		}},
		{"an absent segment", seg7, nil, func(s *site) { s.archive(seg6, content, stored.Zstd) }},
		{"an absent history", "00000003.history", nil, func(s *site) { s.archive(fork2, history, stored.Zstd) }},
		{"an absent flat one", seg7, nil, func(s *site) {
			s.flat()
			s.plant(seg6, content)
		}},
	} {
		// How many steps one fetch takes is not fixed: it does not wait for what it
		// does not need any more. All fetches of a case together take many.
		steps := 0
		for _, applied := range []bool{false, true} {
			for _, mode := range modes {
				for n, past := 0, 0; past < 2; n++ { // one call may take a step less than another
					// Each has a store of its own: what a fetch that has ended had
					// still under way must not take the fault of the next.
					s := newSite(t, small)
					c.prepare(s)
					write(t, s.path(), old)
					// Whoever is asked and fails is remembered: some answers are
					// not needed any more when they come.
					var failed atomic.Pointer[string]
					s.store.Hook(func(step storetest.Step) storetest.Fault {
						if step.N != n {
							return storetest.Fault{}
						}
						what := step.Op + " " + step.Name
						failed.Store(&what)
						return storetest.Fault{Err: fails, Applied: applied}
					})
					err := s.fetch(c.name, mode)
					what, reached := "", false
					if f := failed.Load(); f != nil {
						what, reached = *f, true
					}
					switch {
					case err == nil && c.content == nil:
						t.Errorf("%s: delivered, after %s", c.what, what)
					case err == nil:
						s.delivered(err, c.content)
					case errors.Is(err, ErrNotThere) && (c.content != nil || reached && needed(what, applied)):
						t.Errorf("%s, %s, applied %v: %v, although %s failed", c.what, mode, applied, err, what)
						s.untouched()
					default:
						s.untouched()
					}
					if reached {
						steps++
						continue
					}
					if past++; err != nil && c.content != nil {
						t.Errorf("%s, %s: nothing failed, but %v", c.what, mode, err)
					}
				}
			}
		}
		if steps < 24 {
			t.Errorf("%s: %d steps in all", c.what, steps)
		}
	}
}

// needed reports whether "not there" cannot be said without that answer. The
// histories matter only to guards that have something to judge, and half a
// segment tells whose it is.
func needed(step string, applied bool) bool {
	return !strings.Contains(step, "history") && !(applied && strings.HasPrefix(step, "read"))
}

// A flat folder of another cluster's, beside this cluster's own: after an initdb
// or a pg_upgrade. Its files are not there.
func TestForeignFlatFilesAreNotThere(t *testing.T) {
	s := newSite(t, small)
	other := fixture(t, "15", "000000010000000000000003")
	s.plant("000000010000000000000003", other)
	s.plant(fork2, fixture(t, "15", fork2))
	for _, mode := range modes {
		for _, name := range []string{"000000010000000000000003", "000000010000000000000001", fork2} {
			if err := s.fetch(name, mode); !errors.Is(err, ErrNotThere) {
				t.Errorf("%s, %s: %v", name, mode, err)
			}
		}
	}
	// Its history leaves timeline 1 early, which is nothing to this cluster.
	content := fixture(t, small, seg6)
	s.archive(seg6, content, stored.Zstd)
	s.delivered(s.fetch(seg6, pgdata.ArchiveRecovery), content)
}
