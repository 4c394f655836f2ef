package archive

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"walship/internal/stored"
	"walship/transport"
	"walship/transport/storetest"
)

// Other content under a name that is taken is refused with both hashes and what
// it looks like, and replaces nothing.
func TestConflict(t *testing.T) {
	for _, c := range []struct {
		version, name string
		other         func([]byte) []byte
		hint          string
	}{
		{small, seg6, changed, "another server archives here too"},
		{small, fork2, func([]byte) []byte { return []byte("1\t0/A000100\tby hand\n") }, "promoted to the same timeline"},
		{small, "000000010000000000000008.00000028.backup", changed, "set-aside 000000010000000000000008.00000028.backup"},
		{"9.2", "000000010000000000000003", changed, "before PostgreSQL 9.5"},
	} {
		s := newSite(t, c.version, stored.Zstd)
		content := fixture(t, c.version, c.name)
		s.mustPush(c.name, content)
		before := s.store.Names()
		other := c.other(content)
		err := s.push(c.name, other)
		if !errors.Is(err, ErrConflict) || !strings.Contains(transport.Hint(err), c.hint) || !strings.Contains(transport.Hint(err), "walship set-aside "+c.name) {
			t.Errorf("%s: %v, hint %q", c.name, err, transport.Hint(err))
			continue
		}
		for _, b := range [][]byte{content, other} {
			if sum := fmt.Sprintf("%x", sha256.Sum256(b)); !strings.Contains(err.Error(), sum) {
				t.Errorf("%s: %v does not name %s", c.name, err, sum)
			}
		}
		if strings.ContainsRune(err.Error()+transport.Hint(err), '\n') {
			t.Errorf("%s: more than a line", c.name)
		}
		s.holds(s.stem(c.name), content)
		if !slices.Equal(before, s.store.Names()) {
			t.Errorf("%s: left %q", c.name, s.store.Names())
		}
	}
}

// Two pushers that both find the name free: the file of the one that publishes
// first stays; the other is told the truth.
func TestPublishedMeanwhile(t *testing.T) {
	content := fixture(t, small, seg6)
	for _, same := range []bool{true, false} {
		s, rival := newSite(t, small, stored.Zstd), newSite(t, small, stored.Zstd)
		theirs := content
		if !same {
			theirs = changed(content)
		}
		rival.mustPush(seg6, theirs)
		file, _ := rival.store.Bytes(s.stem(seg6) + ".zst")
		s.store.Hook(func(step storetest.Step) storetest.Fault {
			if step.Op == "put.publish" {
				if err := s.store.Plant(s.stem(seg6)+".zst", file); err != nil {
					t.Error(err)
				}
			}
			return storetest.Fault{}
		})
		err := s.push(seg6, content)
		if same && err != nil || !same && !errors.Is(err, ErrConflict) {
			t.Errorf("same %v: %v", same, err)
		}
		s.store.Hook(nil)
		s.holds(s.stem(seg6), theirs)
	}
}

// Two promotions within one segment give two partial files of one name.
func TestPartials(t *testing.T) {
	s := newSite(t, small, stored.Zstd)
	const name = "00000001000000000000000A.partial"
	first := fixture(t, small, name)
	second, third := changed(first), changed(changed(first))
	s.mustPush(name, first)
	if w := s.warned(); w != "" {
		t.Errorf("warned: %s", w)
	}
	for _, content := range [][]byte{second, third, second} {
		s.mustPush(name, content)
		if w := s.warned(); !strings.Contains(w, fmt.Sprintf("%x.partial", short(content))) {
			t.Errorf("warned: %q", w)
		}
	}
	s.mustPush(name, first)
	s.holds(s.stem(name), first)
	for _, content := range [][]byte{second, third} {
		s.holds(strings.TrimSuffix(s.stem(name), "partial")+fmt.Sprintf("%x.partial", short(content)), content)
	}
}
