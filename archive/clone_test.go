package archive

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"walship/internal/stored"
	"walship/transport"
	"walship/transport/storetest"
	"walship/walname"
)

// planted puts the names of segments into the archive, which is all that the
// guard looks at.
func (s *site) planted(names ...string) {
	for _, name := range names {
		if err := s.store.Plant(s.stem(name)+".zst", []byte("x")); err != nil {
			s.t.Fatal(err)
		}
	}
}

// A fork two or more segments before the archive's end looks like a restored
// copy; a failover forks where the archive ends.
func TestCloneGuard(t *testing.T) {
	// Segments of 1 MB: 0/A00000 is the first byte of segment 0A.
	for _, c := range []struct {
		what, history string
		archived      []string
		refused       bool
	}{
		{"nothing archived", "1\t0/A00C58\tx\n", nil, false},
		{"the fork is ahead", "1\t0/A00C58\tx\n", []string{"000000010000000000000008"}, false},
		{"in the newest", "1\t0/A00C58\tx\n", []string{"00000001000000000000000A"}, false},
		{"one behind", "1\t0/A00C58\tx\n", []string{"00000001000000000000000B"}, false},
		{"two behind", "1\t0/A00C58\tx\n", []string{"00000001000000000000000C"}, true},
		{"many behind", "1\t0/A00C58\tx\n", []string{"00000001000000000000000A", "000000010000000000000F00"}, true},
		{"at the start, one behind", "1\t0/A00000\tx\n", []string{"00000001000000000000000B"}, false},
		{"at the start, two behind", "1\t0/A00000\tx\n", []string{"00000001000000000000000C"}, true},
		{"at the last byte, one behind", "1\t0/AFFFFF\tx\n", []string{"00000001000000000000000B"}, false},
		{"at the last byte, two behind", "1\t0/AFFFFF\tx\n", []string{"00000001000000000000000C"}, true},
		{"across a log, one behind", "1\t0/FFF00001\tx\n", []string{"000000010000000100000000"}, false},
		{"across a log, two behind", "1\t0/FFF00001\tx\n", []string{"000000010000000100000001"}, true},
		{"logs behind", "1\t0/A00C58\tx\n", []string{"00000001000000000000000A", "000000010000000200000000"}, true},
		{"only a partial behind", "1\t0/A00C58\tx\n", []string{"00000001000000000000000F.partial", "000000010000000000000009"}, false},
		{"only a label in the last log", "1\t0/A00C58\tx\n", []string{"000000010000000200000000.00000028.backup", "00000001000000000000000A"}, false},
		{"only a label in the last log, a copy", "1\t0/A00C58\tx\n", []string{"000000010000000200000000.00000028.backup", "00000001000000000000000F"}, true},
		{"another timeline goes on", "1\t0/A00C58\tx\n", []string{"000000020000000000000FFF", "00000001000000000000000A"}, false},
		{"the parent goes on", "1\t0/A00C58\tx\n2\t0/B00000\tx\n", []string{"00000002000000000000000D"}, true},
		{"the grandparent goes on", "1\t0/A00C58\tx\n2\t0/B00000\tx\n", []string{"00000001000000000000000F", "00000002000000000000000B"}, false},
	} {
		s := newSite(t, small, stored.Zstd)
		s.planted(c.archived...)
		name := fmt.Sprintf("%08X.history", strings.Count(c.history, "\n")+1)
		err := s.push(name, []byte(c.history))
		_, there := s.content(s.stem(name))
		if errors.Is(err, ErrCloned) != c.refused || !c.refused && err != nil || there == c.refused {
			t.Errorf("%s: %v, stored %v, want refused %v", c.what, err, there, c.refused)
		}
		if !c.refused {
			continue
		}
		if last := c.archived[len(c.archived)-1]; !strings.Contains(err.Error(), last) || !strings.Contains(transport.Hint(err), "--no-clone-guard") {
			t.Errorf("%s: %v, hint %q", c.what, err, transport.Hint(err))
		}
		s.CloneGuard = false
		if err := s.push(name, []byte(c.history)); err != nil {
			t.Errorf("%s, guard off: %v", c.what, err)
		}
		s.CloneGuard = true
		// Archived it is archived, also when the old timeline goes on behind it.
		if err := s.push(name, []byte(c.history)); err != nil {
			t.Errorf("%s, again: %v", c.what, err)
		}
	}
}

// 9.0 to 9.2 name the segment of the fork; none of their logs has a last one.
func TestCloneGuardBefore93(t *testing.T) {
	for archived, refused := range map[string]bool{
		"0000000100000000000000FE": false, "000000010000000100000000": false, "000000010000000100000001": true,
	} {
		s := newSite(t, "9.2", stored.Zstd)
		s.planted(archived)
		err := s.push(fork2, []byte("1\t0000000100000000000000FE\tx\n"))
		if errors.Is(err, ErrCloned) != refused || !refused && err != nil {
			t.Errorf("%s: %v, want refused %v", archived, err, refused)
		}
	}
	if g := dataDir(t, "9.2").Geometry(); g != (walname.Geometry{SegmentSize: 16 << 20, SkipFF: true}) {
		t.Errorf("%+v", g)
	}
}

// A store that fails is no reason to let a copy pass, and the damaged copy of a
// refused history stays where it is, where it is a doubt for those who recover.
func TestCloneGuardInDoubt(t *testing.T) {
	fails := errors.New("cannot list")
	s := newSite(t, small, stored.Zstd)
	s.planted("00000001000000000000000F")
	s.store.Hook(func(step storetest.Step) storetest.Fault {
		if step.Op == "list" {
			return storetest.Fault{Err: fails}
		}
		return storetest.Fault{}
	})
	history := []byte("1\t0/A00C58\tx\n")
	if err := s.push(fork2, history); !errors.Is(err, fails) {
		t.Errorf("got %v", err)
	}
	s.store.Hook(nil)
	if err := s.store.Plant(s.stem(fork2)+".zst", []byte("torn")); err != nil {
		t.Fatal(err)
	}
	before := s.store.Names()
	if err := s.push(fork2, history); !errors.Is(err, ErrCloned) {
		t.Errorf("got %v", err)
	}
	if !slices.Equal(before, s.store.Names()) {
		t.Errorf("left %q", s.store.Names())
	}
}
