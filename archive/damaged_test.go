package archive

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"walship/internal/stored"
	"walship/transport/storetest"
)

// damaged lists what lies under refused/ as damaged.
func (s *site) damaged() (names []string) {
	for _, name := range s.store.Names() {
		if strings.HasPrefix(name, s.cluster().Refused()+"/") && strings.HasSuffix(name, ".damaged") {
			names = append(names, name)
		}
	}
	return names
}

// A stored file that is not whole is never confirmed: it is moved to refused/,
// reported, and stored anew.
func TestDamagedIsStoredAnew(t *testing.T) {
	content := fixture(t, small, seg6)
	label := fixture(t, small, "000000010000000000000008.00000028.backup")
	for _, c := range []struct {
		what, name string
		content    []byte
		codec      stored.Codec
		damage     func(file []byte) []byte
	}{
		{"empty", seg6, content, stored.Zstd, func([]byte) []byte { return nil }},
		{"empty", seg6, content, stored.Plain, func([]byte) []byte { return nil }},
		{"empty", fork2, fixture(t, small, fork2), stored.Plain, func([]byte) []byte { return nil }},
		{"two bytes", fork2, fixture(t, small, fork2), stored.Zstd, func(b []byte) []byte { return b[:2] }},
		{"cut within its head", seg6, content, stored.Zstd, func(b []byte) []byte { return b[:300] }},
		{"cut at its head's end", seg6, content, stored.Gzip, func(b []byte) []byte { return b[:stored.HeadSize] }},
		{"cut by a byte", seg6, content, stored.Zstd, func(b []byte) []byte { return b[:len(b)-1] }},
		{"cut by a byte", seg6, content, stored.Gzip, func(b []byte) []byte { return b[:len(b)-1] }},
		{"cut by a byte", seg6, content, stored.Plain, func(b []byte) []byte { return b[:len(b)-1] }},
		{"grown", seg6, content, stored.Zstd, func(b []byte) []byte { return append(b, 0) }},
		{"zeros", seg6, content, stored.Zstd, func(b []byte) []byte { return make([]byte, len(b)) }},
		{"a broken record", seg6, content, stored.Zstd, func(b []byte) []byte { b[100]++; return b }},
		{"no record and a broken body", seg6, content, stored.Zstd, func(b []byte) []byte { b[0]--; b[len(b)-9]++; return b }},
		{"a cut label", "000000010000000000000008.00000028.backup", label, stored.Gzip, func(b []byte) []byte { return b[:len(b)-1] }},
	} {
		s := newSite(t, small, c.codec)
		s.mustPush(c.name, c.content)
		stow := s.stem(c.name) + c.codec.Extension()
		file, _ := s.store.Bytes(stow)
		bad := c.damage(bytes.Clone(file))
		if err := s.store.Plant(stow, bad); err != nil {
			t.Fatal(err)
		}
		if err := s.push(c.name, c.content); err != nil {
			t.Errorf("%s, %s: %v", c.what, c.codec, err)
			continue
		}
		s.holds(s.stem(c.name), c.content)
		moved := s.damaged()
		if len(moved) != 1 {
			t.Errorf("%s, %s: moved %q", c.what, c.codec, moved)
			continue
		}
		if kept, _ := s.store.Bytes(moved[0]); !bytes.Equal(kept, bad) {
			t.Errorf("%s, %s: the damaged file was not kept as it was", c.what, c.codec)
		}
		if w := s.warned(); !strings.Contains(w, stow) || !strings.Contains(w, moved[0]) {
			t.Errorf("%s, %s: warned %q", c.what, c.codec, w)
		}
	}
}

// A file of another name or cluster is no archived copy, whatever its name.
func TestStoredFileOfAnother(t *testing.T) {
	s, other := newSite(t, small, stored.Zstd), newSite(t, "15", stored.Zstd)
	content := fixture(t, small, seg6)
	s.mustPush(seg7, fixture(t, small, seg7))
	other.mustPush(fork2, fixture(t, "15", fork2))
	swapped, _ := s.store.Bytes(s.stem(seg7) + ".zst")
	foreign, _ := other.store.Bytes(other.stem(fork2) + ".zst")
	for name, file := range map[string][]byte{seg6: swapped, fork2: foreign} {
		if err := s.store.Plant(s.stem(name)+".zst", file); err != nil {
			t.Fatal(err)
		}
	}
	s.mustPush(seg6, content)
	s.mustPush(fork2, fixture(t, small, fork2))
	s.holds(s.stem(seg6), content)
	s.holds(s.stem(fork2), fixture(t, small, fork2))
	if moved := s.damaged(); len(moved) != 2 {
		t.Errorf("moved %q", moved)
	}
}

// A torn file whose record names other content is a conflict: what it was is
// not this push's to replace.
func TestTornFileOfOtherContent(t *testing.T) {
	s := newSite(t, small, stored.Zstd)
	content := fixture(t, small, seg6)
	s.mustPush(seg6, content)
	file, _ := s.store.Bytes(s.stem(seg6) + ".zst")
	if err := s.store.Plant(s.stem(seg6)+".zst", file[:len(file)-1]); err != nil {
		t.Fatal(err)
	}
	before := s.store.Names()
	if err := s.push(seg6, changed(content)); !errors.Is(err, ErrConflict) {
		t.Errorf("got %v", err)
	}
	if !slices.Equal(before, s.store.Names()) {
		t.Errorf("left %q", s.store.Names())
	}
}

// A pusher that saw a damaged file and comes to move it away late does not take
// away what another one has stored in its place.
func TestPutRightMeanwhile(t *testing.T) {
	s := newSite(t, small, stored.Zstd)
	content := fixture(t, small, seg6)
	s.mustPush(seg6, content)
	stow := s.stem(seg6) + ".zst"
	file, _ := s.store.Bytes(stow)
	if err := s.store.Plant(stow, nil); err != nil {
		t.Fatal(err)
	}
	first := true
	s.store.Hook(func(step storetest.Step) storetest.Fault {
		if step.Op == "move" && first {
			first = false
			if err := s.store.Plant(stow, file); err != nil {
				t.Error(err)
			}
		}
		return storetest.Fault{}
	})
	s.mustPush(seg6, content)
	s.holds(s.stem(seg6), content)
	if moved := s.damaged(); len(moved) != 0 || first {
		t.Errorf("moved %q", moved)
	}
}
