package restore

import (
	"errors"
	"strings"
	"testing"

	"filippo.io/age"

	"walship/internal/crypt"
	"walship/internal/stored"
)

// Without the key, with another's, or with an identity file that cannot be used,
// an encrypted file is doubt, in every mode: never "not there", never damage, for
// which another copy would be looked for.
func TestNoKeyIsDoubt(t *testing.T) {
	content, history := fixture(t, small, seg6), fixture(t, small, fork2)
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		keys  *crypt.Keys
		class error
		says  string
	}{
		"none":          {nil, crypt.ErrNoKey, "no identity_file is set"},
		"another's":     {crypt.KeysOf(other), crypt.ErrNoKey, "none of the identities"},
		"an empty path": {crypt.NewKeys(""), crypt.ErrNoKey, "no identity_file is set"},
		"no such file":  {crypt.NewKeys("/nowhere/key.txt"), crypt.ErrIdentity, "/nowhere/key.txt"},
	} {
		for name, content := range map[string][]byte{seg6: content, fork2: history} {
			s := newSite(t, small)
			s.archive(name, content, stored.Zstd.Sealed())
			s.Keys = c.keys
			for _, mode := range modes {
				err := s.fetch(name, mode)
				s.doubt(what+", "+name, err, c.class, c.says)
				if errors.Is(err, stored.ErrDamaged) {
					t.Errorf("%s: it is called damaged: %v", what, err)
				}
			}
		}
	}
}

// A newer history that cannot be opened withholds what it might fork from.
func TestForkGuardNeedsTheKey(t *testing.T) {
	s := newSite(t, small)
	s.archive(seg6, fixture(t, small, seg6), stored.Zstd)
	s.archive(fork2, fixture(t, small, fork2), stored.Zstd.Sealed())
	s.Keys = nil
	for _, mode := range modes[2:] {
		s.doubt("a newer history", s.fetch(seg6, mode), crypt.ErrNoKey, "no identity_file")
	}
	s.Keys = testKeys()
	s.delivered(s.fetch(seg6, modes[3]), fixture(t, small, seg6))
}

// Of several archives one that is there and whose histories cannot be opened is not
// passed over as one that is down may be: it stays so.
func TestForkGuardNeedsEveryKey(t *testing.T) {
	one, other := newSite(t, small), newSite(t, small)
	one.Archive, other.Archive = "one", "other"
	one.archive(seg6, fixture(t, small, seg6), stored.Zstd)
	other.archive(fork2, fixture(t, small, fork2), stored.Zstd.Sealed())
	one.Keys, other.Keys = nil, nil
	all := Fetchers{one.Fetcher, other.Fetcher}
	for _, mode := range modes[2:] {
		err := all.Fetch(t.Context(), Request{Name: seg6, Path: one.path(), Data: one.data, Mode: mode})
		one.doubt("a newer history in the other", err, crypt.ErrNoKey, "other: ")
	}
}

// A history that the keys do not open, such as one of before they were changed, or
// one that somebody has added, stands in the way of a restore only where it is
// needed.
func TestRestoreBesideASealedHistory(t *testing.T) {
	s := newSite(t, fifteen)
	s.segments(1, 6, 7, noon)
	s.backup(aBackup{start: "0/6000028", end: "0/6000100"})
	s.archive("000000FF.history", []byte("1\t0/6800000\tx\n"), stored.Zstd.Sealed())
	r := s.restorer()
	r.Keys = nil
	o := s.options()
	if _, err := r.Plan(t.Context(), o); !errors.Is(err, crypt.ErrNoKey) {
		t.Errorf("the latest timeline: %v", err)
	}
	o.Timeline = TimelineChoice{Number: 1}
	if plan, err := r.Plan(t.Context(), o); err != nil || plan.Timeline != 1 {
		t.Errorf("timeline 1: %v", err)
	}
}

// An archive without encrypted files never looks at the identity file.
func TestNoKeyIsNeeded(t *testing.T) {
	s := newSite(t, small)
	s.archive(seg6, fixture(t, small, seg6), stored.Zstd)
	s.Keys = crypt.NewKeys("/nowhere/key.txt")
	s.delivered(s.fetch(seg6, modes[3]), fixture(t, small, seg6))
}

// A backup that the keys do not open writes nothing that a server would start in,
// and says which file it could not open.
func TestRestoreWithoutTheKey(t *testing.T) {
	s := newSite(t, fifteen)
	s.segments(1, 6, 7, noon)
	s.backup(aBackup{start: "0/6000028", end: "0/6000100", codec: stored.Zstd.Sealed()})
	r := s.restorer()
	r.Keys = nil
	o := s.options()
	_, err := r.Plan(t.Context(), o)
	if !errors.Is(err, crypt.ErrNoKey) || isDamage(err) || !strings.Contains(err.Error(), ".age") {
		t.Errorf("%v", err)
	}
	hasNo(t, o.Dir, ".")
}
