package archive

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"walship/internal/stored"
	"walship/walname"
)

// forked is a promoted server of a version before 9.5: its WAL folder holds its
// own history. last is the segment in which it left timeline 1.
func forked(t *testing.T, version string) (s *site, last string) {
	s = newSite(t, version, stored.Zstd)
	write(t, filepath.Join(s.data.WALDir(), fork2), fixture(t, version, fork2))
	last = "000000010000000000000005"
	if version == "9.0" {
		last = "000000010000000000000004"
	}
	return s, last
}

// Before 9.5 a promoted server pushes the unfinished last segment under its full
// name, which is the old primary's.
func TestUnfinishedSegment(t *testing.T) {
	for _, version := range []string{"9.0", "9.1", "9.2", "9.3", "9.4"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s, last := forked(t, version)
			ours, theirs := fixture(t, version, last), fixture(t, version, last+".other-node")
			// What a server that was not promoted has to say of it.
			primary := &site{Pusher: s.Pusher, t: t, data: dataDir(t, version), store: s.store}

			s.mustPush(last, ours)
			s.holds(s.stem(last+".partial"), ours)
			if _, there := s.content(s.stem(last)); there {
				t.Error("the unfinished segment has the full name")
			}
			if w := s.warned(); !strings.Contains(w, last+".partial") || strings.Contains(w, "\n") {
				t.Errorf("warned: %q", w)
			}
			s.mustPush(last, ours)
			primary.mustPush(last, theirs)
			s.holds(s.stem(last), theirs)
			s.mustPush(last, ours)
			s.holds(s.stem(last), theirs)

			// The rest of its life is as ever.
			s.mustPush(fork2, fixture(t, version, fork2))
			next := strings.Replace(last, "00000001", "00000002", 1)
			s.mustPush(next, fixture(t, version, next))
			s.holds(s.stem(next), fixture(t, version, next))
			before := last[:23] + string(last[23]-1)
			s.mustPush(before, fixture(t, version, before))
			s.holds(s.stem(before), fixture(t, version, before))
		})
	}
}

// If this very content is archived under its full name, that will do; whose
// damaged copy there is is not this server's to mend.
func TestUnfinishedSegmentIsThere(t *testing.T) {
	s, last := forked(t, "9.4")
	ours := fixture(t, "9.4", last)
	primary := &site{Pusher: s.Pusher, t: t, data: dataDir(t, "9.4"), store: s.store}
	primary.mustPush(last, ours)
	before := s.store.Names()
	s.mustPush(last, ours)
	if !slices.Equal(before, s.store.Names()) {
		t.Errorf("left %q", s.store.Names())
	}
	if err := s.store.Plant(s.stem(last)+".zst", nil); err != nil {
		t.Fatal(err)
	}
	s.mustPush(last, ours)
	s.holds(s.stem(last+".partial"), ours)
	if moved := s.damaged(); len(moved) != 0 {
		t.Errorf("moved %q", moved)
	}
}

// 9.0 and 9.1 push recycled segments from behind the fork.
func TestLeftovers(t *testing.T) {
	for _, version := range []string{"9.0", "9.1", "9.2", "9.4"} {
		s, last := forked(t, version)
		garbage := fixture(t, version, "000000010000000000000003")
		name := last[:23] + string(last[23]+2)
		err := s.push(name, garbage)
		if version > "9.1" {
			if !errors.Is(err, ErrRefused) {
				t.Errorf("%s: %v", version, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", version, err)
		}
		stem := s.cluster().Refused() + fmt.Sprintf("/%s.%x", name, short(garbage))
		s.holds(stem, garbage)
		if w := s.warned(); !strings.Contains(w, stem) {
			t.Errorf("%s: warned %q", version, w)
		}
		if _, there := s.content(s.stem(name)); there {
			t.Errorf("%s: garbage has the full name", version)
		}
		// Real WAL behind the fork, which a recovery to a point in time leaves
		// behind, is archived.
		wal := s.segment(name, garbage)
		s.mustPush(name, wal)
		s.holds(s.stem(name), wal)
		// Before the fork nothing is let pass.
		if err := s.push(last[:23]+"1", garbage); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: garbage before the fork: %v", version, err)
		}
	}
}

// Where the segment lies from the fork, to the byte.
func TestSide(t *testing.T) {
	const mb = 1 << 20
	sides := map[side]string{beforeFork: "before", atFork: "at", pastFork: "past"}
	for _, c := range []struct {
		size    int64
		history string
		tl      walname.Timeline // of the history
		segment string
		want    side
	}{
		{16 * mb, "1\t0/5000E58\tx\n", 2, "000000010000000000000004", beforeFork},
		{16 * mb, "1\t0/5000E58\tx\n", 2, "000000010000000000000005", atFork},
		{16 * mb, "1\t0/5000E58\tx\n", 2, "000000010000000000000006", pastFork},
		{16 * mb, "1\t0/5000000\tx\n", 2, "000000010000000000000004", beforeFork}, // complete
		{16 * mb, "1\t0/5000000\tx\n", 2, "000000010000000000000005", pastFork},
		{16 * mb, "1\t0/5000001\tx\n", 2, "000000010000000000000005", atFork},
		{16 * mb, "1\t0/5FFFFFF\tx\n", 2, "000000010000000000000005", atFork},
		{16 * mb, "1\t0/6000000\tx\n", 2, "000000010000000000000005", beforeFork},
		{16 * mb, "1\t1/0\tx\n", 2, "0000000100000000000000FF", beforeFork},
		{16 * mb, "1\t1/8\tx\n", 2, "000000010000000100000000", atFork},
		{mb, "1\t0/5000E58\tx\n", 2, "000000010000000000000050", atFork},
		{mb, "1\t0/5100000\tx\n", 2, "000000010000000000000050", beforeFork},
		{1024 * mb, "1\t0/40000000\tx\n", 2, "000000010000000000000000", beforeFork},
		{1024 * mb, "1\t0/40000001\tx\n", 2, "000000010000000000000001", atFork},
		{1024 * mb, "1\t0/3FFFFFFF\tx\n", 2, "000000010000000000000000", atFork},
		// A chain; and a recovery that ended before its timeline's beginning.
		{16 * mb, "1\t0/5000E58\tx\n2\t0/9000000\tx\n", 3, "000000010000000000000005", atFork},
		{16 * mb, "1\t0/5000E58\tx\n2\t0/9000000\tx\n", 3, "000000020000000000000008", beforeFork},
		{16 * mb, "1\t0/9000E58\tx\n2\t0/5000000\tx\n", 3, "000000010000000000000004", beforeFork},
		{16 * mb, "1\t0/9000E58\tx\n2\t0/5000010\tx\n", 3, "000000010000000000000005", atFork},
		{16 * mb, "1\t0/9000E58\tx\n2\t0/5000010\tx\n", 3, "000000010000000000000006", pastFork},
		// 9.0 to 9.2 name a segment.
		{16 * mb, "1\t000000010000000000000005\tx\n", 2, "000000010000000000000004", beforeFork},
		{16 * mb, "1\t000000010000000000000005\tx\n", 2, "000000010000000000000005", atFork},
		{16 * mb, "1\t000000010000000000000005\tx\n", 2, "000000010000000000000006", pastFork},
		{16 * mb, "1\t000000010000000000000005\tx\n", 2, "000000010000000100000000", pastFork},
	} {
		version := "9.4"
		if strings.Contains(c.history, "0000000000000000000") || strings.Contains(c.history, "1\t0000") {
			version = "9.2"
		}
		data := dataDir(t, version)
		data.Control.SegmentSize = c.size
		h, err := walname.ParseHistory(c.tl, []byte(c.history))
		if err != nil {
			t.Fatal(err)
		}
		n, err := walname.Parse(c.segment)
		if err != nil {
			t.Fatal(err)
		}
		f := &file{name: n, data: data, geometry: data.Geometry()}
		a, ok := left(h, n.Timeline())
		if got := f.side(h, a); !ok || got != c.want {
			t.Errorf("%d MB, %q, %s: %s, want %s", c.size/mb, c.history, c.segment, sides[got], sides[c.want])
		}
	}
}

// Up to 9.2 a fork at the segment's very end is recorded like one within it: the
// new timeline's own first segment tells them apart.
func TestForkAtSegmentEnd(t *testing.T) {
	const last, copied, next = "000000010000000000000005", "000000020000000000000005", "000000020000000000000006"
	content := fixture(t, "9.2", last)
	for _, c := range []struct {
		own     []string
		partial bool
	}{
		{nil, true},
		{[]string{copied}, true},
		{[]string{copied, next}, true},
		{[]string{next}, false},
	} {
		s, _ := forked(t, "9.2")
		for _, name := range c.own {
			write(t, filepath.Join(s.data.WALDir(), name), nil)
		}
		s.mustPush(last, content)
		got, there := s.content(s.stem(last + ".partial"))
		_, full := s.content(s.stem(last))
		if there != c.partial || full == c.partial || there && !bytes.Equal(got, content) {
			t.Errorf("with %q: partial %v, full %v", c.own, there, full)
		}
	}
	// 9.3 and 9.4 say it to the byte.
	s := newSite(t, "9.4", stored.Zstd)
	write(t, filepath.Join(s.data.WALDir(), fork2), []byte("1\t0/6000000\tno recovery target specified\n"))
	s.mustPush(last, fixture(t, "9.4", last))
	s.holds(s.stem(last), fixture(t, "9.4", last))
}

// Another line's history in the WAL folder says nothing about this server's own
// segments.
func TestHistoryOfAnotherLine(t *testing.T) {
	s, last := forked(t, "9.4")
	write(t, filepath.Join(s.data.WALDir(), "00000003.history"), []byte("1\t0/8000000\tno recovery target specified\n"))
	content := fixture(t, "9.4", last)
	s.mustPush(last, content)
	s.holds(s.stem(last), content)
}

func TestBrokenHistory(t *testing.T) {
	s, last := forked(t, "9.4")
	write(t, filepath.Join(s.data.WALDir(), fork2), []byte("1\t0/50"))
	if err := s.push(last, fixture(t, "9.4", last)); !errors.Is(err, ErrLocal) {
		t.Errorf("got %v", err)
	}
	if _, there := s.content(s.stem(last)); there {
		t.Error("it was stored")
	}
}

// From 9.5 on the server itself knows.
func TestNotFiledFrom95(t *testing.T) {
	s := newSite(t, small, stored.Zstd)
	write(t, filepath.Join(s.data.WALDir(), fork2), fixture(t, small, fork2))
	content := fixture(t, small, seg9)
	name := "00000001000000000000000A"
	s.mustPush(name, s.segment(name, content))
	if _, there := s.content(s.stem(name)); !there {
		t.Error("it is not under its name")
	}
}
