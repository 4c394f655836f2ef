package archive

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"walship/internal/layout"
	"walship/internal/stored"
	"walship/transport"
	"walship/transport/storetest"
	"walship/walname"
)

// Every kind of file of real servers is stored whole under its name, with its
// record; pushed again it uploads nothing.
func TestPush(t *testing.T) {
	for version, names := range map[string][]string{
		"9.0":      {"000000010000000000000001", "000000010000000000000002.00000020.backup"},
		"9.2":      {"000000010000000000000002", "000000020000000000000005"},
		"9.3":      {"000000010000000000000002", "00000002.history", "000000020000000000000005"},
		"15":       {"000000010000000000000003", "000000010000000000000003.00000028.backup", "000000010000000000000005.partial", "00000002.history", "000000020000000000000005"},
		"17_seg1":  {seg6, seg7, seg9, "000000010000000000000008.00000028.backup", "00000001000000000000000A.partial", "00000002.history", "00000002000000000000000A"},
		"16_seg64": {"000000010000000000000005.partial", "000000020000000000000005"},
		"18":       {"000000010000000000000004", "000000020000000000000005"},
	} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, version, stored.Zstd)
			for _, name := range names {
				content := fixture(t, version, name)
				s.mustPush(name, content)
				s.holds(s.stem(name), content)
				head, _ := s.store.Bytes(s.stem(name) + ".zst")
				r, err := stored.ParseHead(head, int64(len(head)))
				if err != nil || r.Name != name || r.SystemID != s.data.Control.SystemID || r.SegmentSize != s.data.Control.SegmentSize ||
					r.Version != s.data.Version.String() || time.Since(r.Time) > time.Hour {
					t.Errorf("record %+v, %v", r, err)
				}
				before := s.store.Names()
				uploads := s.ofSteps("put.write")
				s.mustPush(name, content)
				if n := uploads(); n != 0 {
					t.Errorf("%s again: %d uploads", name, n)
				}
				if after := s.store.Names(); strings.Join(before, " ") != strings.Join(after, " ") {
					t.Errorf("%s again: %q became %q", name, before, after)
				}
			}
			if w := s.warned(); w != "" {
				t.Errorf("warned: %s", w)
			}
		})
	}
}

// A segment names its cluster itself: no data directory is needed for it, but
// for a history.
func TestPushWithoutDataDirectory(t *testing.T) {
	s := newSite(t, small, stored.Zstd)
	for name, ok := range map[string]bool{seg6: true, "00000001000000000000000A.partial": true, fork2: false, "000000010000000000000008.00000028.backup": false} {
		path := filepath.Join(t.TempDir(), "file")
		write(t, path, fixture(t, small, name))
		err := s.Push(t.Context(), nil, path, name)
		if ok != (err == nil) || !ok && (!errors.Is(err, ErrLocal) || !strings.Contains(transport.Hint(err), "-D")) {
			t.Errorf("%s: %v", name, err)
		}
		if _, there := s.content(s.stem(name)); there != ok {
			t.Errorf("%s is there: %v", name, there)
		}
	}
}

// What is not what its name says is refused, and leaves nothing.
func TestRefused(t *testing.T) {
	s := newSite(t, small, stored.Zstd)
	good := fixture(t, small, seg6)
	put := func(at int, v ...byte) []byte { b := bytes.Clone(good); copy(b[at:], v); return b }
	for _, c := range []struct {
		what, name string
		content    []byte
		says       string
	}{
		{"empty", seg6, nil, "it has 0 bytes"},
		{"one byte", seg6, good[:1], "it has 1 bytes"},
		{"short", seg6, good[:len(good)-1], "1048575 bytes"},
		{"long", seg6, append(bytes.Clone(good), 0), "1048577 bytes"},
		{"zeros", seg6, make([]byte, len(good)), "magic"},
		{"random", seg6, bytes.Repeat([]byte{0xa5, 0x5a, 7}, len(good)/3+1)[:len(good)], "magic"},
		{"another address", seg7, good, "page address"},
		{"a higher timeline", seg6, put(4, 2), "timeline is 2"},
		{"timeline 0", seg6, put(4, 0), "timeline is 0"},
		{"another cluster's", seg6, put(24, good[24]+1), "system identifier"},
		{"another segment size", seg6, put(32, 0, 0, 0, 1), "segment size"},
		{"a short header", seg6, put(2, 0), "no long header"},
		{"no such segment", "000000010000000000001000", good, "name"},
		{"an empty partial", seg6 + ".partial", nil, "it has 0 bytes"},
		{"another's partial", seg7 + ".partial", good, "page address"},
		{"an empty history", fork2, nil, "no ancestor"},
		{"a torn history", fork2, []byte("1\t0/A0"), "ends within"},
		{"a history of itself", fork2, []byte("2\t0/A000000\tno reason\n"), "not below"},
		{"a huge history", fork2, bytes.Repeat([]byte{'#'}, maxSmall+1), "bytes"},
		{"an empty backup label", seg6 + ".00000028.backup", nil, "0 bytes"},
		{"a huge backup label", seg6 + ".00000028.backup", make([]byte, maxSmall+1), "bytes"},
		{"no WAL file name", "postgresql.conf", good, "name"},
		{"small letters", "00000001000000000000000a", good, "name"},
		{"a name with a space", seg6 + " ", good, "name"},
	} {
		before := len(s.store.Names())
		path := filepath.Join(s.data.WALDir(), "file")
		write(t, path, c.content)
		err := s.Push(t.Context(), s.data, path, c.name)
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), c.says) || transport.Hint(err) == "" {
			t.Errorf("%s: %v (hint %q), want a refusal that says %q", c.what, err, transport.Hint(err), c.says)
		}
		if len(s.store.Names()) != before {
			t.Errorf("%s: left %q", c.what, s.store.Names())
		}
	}
}

// A server that is newer than this program is archived, with a warning; what
// cannot be WAL of this cluster is not, unless the check is off.
func TestUnknownMagic(t *testing.T) {
	s := newSite(t, small, stored.Zstd)
	newer := fixture(t, small, seg6)
	newer[0], newer[1] = 0x20, 0xD1
	s.mustPush(seg6, newer)
	if w := s.warned(); !strings.Contains(w, "D120") {
		t.Errorf("warned: %q", w)
	}
	encrypted := bytes.Repeat([]byte("encrypted"), 1<<20/9+1)[:1<<20]
	if err := s.push(seg7, encrypted); !errors.Is(err, ErrRefused) || !strings.Contains(transport.Hint(err), "header_check") {
		t.Errorf("%v, hint %q", err, transport.Hint(err))
	}
	s.HeaderCheck = false
	s.mustPush(seg7, encrypted)
	s.holds(s.stem(seg7), encrypted)
}

func TestUnreadable(t *testing.T) {
	s := newSite(t, small, stored.Zstd)
	for _, path := range []string{"", t.TempDir(), filepath.Join(t.TempDir(), "absent")} {
		if err := s.Push(t.Context(), s.data, path, seg6); !errors.Is(err, ErrLocal) {
			t.Errorf("%q: %v", path, err)
		}
	}
}

// A file that becomes shorter after it was checked is not archived as it is.
func TestFileShrinks(t *testing.T) {
	s := newSite(t, small, stored.Zstd)
	path := filepath.Join(s.data.WALDir(), seg6)
	write(t, path, fixture(t, small, seg6))
	f, err := openFile(s.data, path, seg6)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	if err := os.Truncate(path, 1<<19); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Pusher.store(t.Context(), f, s.stem(seg6)); !errors.Is(err, ErrLocal) {
		t.Errorf("got %v, want %v", err, ErrLocal)
	}
	if _, there := s.content(s.stem(seg6)); there {
		t.Error("it was stored")
	}
}

// The archive's own codec decides, whatever this push guessed; and a file that
// is there under another extension is found.
func TestCodecOfTheArchive(t *testing.T) {
	content := fixture(t, small, seg6)
	for _, own := range stored.Written() {
		for _, guess := range []stored.Codec{stored.Zstd, stored.Gzip, stored.Plain, stored.Zstd.Sealed()} {
			s := newSite(t, small, own)
			s.Codec = inner(guess)
			if own.IsSealed() { // others refuse a pusher that has recipients
				s.Recipients = recipientsFor(guess)
			}
			s.mustPush(seg6, content)
			s.holds(s.stem(seg6), content)
			if _, ok := s.store.Bytes(s.stem(seg6) + own.Extension()); !ok {
				t.Errorf("archive of %s, guess %s: stored as %q", own, guess, s.store.Names())
			}
			for _, again := range stored.Written() {
				s.Codec = inner(again)
				s.mustPush(seg6, content)
				if err := s.push(seg6, changed(content)); !errors.Is(err, ErrConflict) {
					t.Errorf("archive of %s, guess %s: other content: %v", own, again, err)
				}
			}
			s.holds(s.stem(seg6), content)
		}
	}
	s := newSite(t, small, stored.Zstd)
	if err := s.store.Plant(s.stem(seg6), content); err != nil { // by hand, plain
		t.Fatal(err)
	}
	s.mustPush(seg6, content)
	if err := s.push(seg6, changed(content)); !errors.Is(err, ErrConflict) {
		t.Errorf("other content than a plain file's: %v", err)
	}
	s.holds(s.stem(seg6), content)
}

// A stored file has been synced before it is called archived.
func TestSameContentIsSynced(t *testing.T) {
	s := newSite(t, small, stored.Zstd)
	content := fixture(t, small, seg6)
	s.mustPush(seg6, content)
	fails := errors.New("cannot sync")
	s.store.Hook(func(step storetest.Step) storetest.Fault {
		if step.Op == "sync" {
			return storetest.Fault{Err: fails}
		}
		return storetest.Fault{}
	})
	if err := s.push(seg6, content); !errors.Is(err, fails) {
		t.Errorf("got %v", err)
	}
}

// Old temporary files are swept now and then, young ones stay.
func TestSweeps(t *testing.T) {
	s := newSite(t, small, stored.Zstd)
	old, young := s.cluster().Tmp()+"/x.0123456789abcdef.tmp", s.cluster().Tmp()+"/y.0123456789abcdef.tmp"
	if err := errors.Join(s.store.Plant(old, nil), s.store.Plant(young, nil), s.store.Age(old, 25*time.Hour)); err != nil {
		t.Fatal(err)
	}
	name := "000000010000000000000010"
	s.mustPush(name, s.segment(name, fixture(t, small, seg6)))
	if _, ok := s.store.Bytes(old); ok {
		t.Error("the old one is still there")
	}
	if _, ok := s.store.Bytes(young); !ok {
		t.Error("the young one is gone")
	}
}

func TestPushCancelled(t *testing.T) {
	s := newSite(t, small, stored.Zstd)
	path := filepath.Join(s.data.WALDir(), seg6)
	write(t, path, fixture(t, small, seg6))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Push(ctx, s.data, path, seg6); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, there := s.content(s.stem(seg6)); there {
		t.Error("it was stored")
	}
}

// The local folder keeps what the memory does.
func TestPushToFolder(t *testing.T) {
	root, data := t.TempDir(), dataDir(t, small)
	store := transport.NewLocal(root, transport.Full)
	if _, _, err := Init(t.Context(), store, data, stored.Gzip, nil); err != nil {
		t.Fatal(err)
	}
	p := &Pusher{Store: store, Codec: stored.Zstd, HeaderCheck: true, CloneGuard: true, Warn: func(text string) { t.Error(text) }}
	path := filepath.Join(data.WALDir(), seg6)
	content := fixture(t, small, seg6)
	write(t, path, content)
	for range 2 {
		if err := p.Push(t.Context(), data, path, seg6); err != nil {
			t.Fatal(err)
		}
	}
	n, _ := walname.Parse(seg6)
	f, err := os.Open(filepath.Join(root, layout.Cluster{SystemID: data.Control.SystemID}.Stem(n)+".gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, _ := f.Stat()
	c, err := stored.Decode(f, info.Size(), stored.Gzip, 1<<20, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if _, err := got.ReadFrom(c); err != nil || !bytes.Equal(got.Bytes(), content) {
		t.Errorf("%d bytes, %v", got.Len(), err)
	}
}
