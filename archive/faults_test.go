package archive

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"walship/internal/stored"
	"walship/transport/storetest"
)

// Each step of the store fails in turn, before it takes effect and after: Push
// returns nil only if the content is there whole, and the retry is nil.
func TestPushFaults(t *testing.T) {
	content := fixture(t, small, seg6)
	torn := func(s *site) {
		s.mustPush(seg6, content)
		file, _ := s.store.Bytes(s.stem(seg6) + ".zst")
		if err := s.store.Plant(s.stem(seg6)+".zst", file[:1000]); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		what, name string
		content    []byte
		codec      stored.Codec // of the archive
		before     func(*site)
		least      int // steps that it must take
	}{
		{"new", seg6, content, stored.Zstd, func(*site) {}, 7},
		{"another codec", seg6, content, stored.Gzip, func(*site) {}, 7},
		{"there", seg6, content, stored.Zstd, func(s *site) { s.mustPush(seg6, content) }, 6},
		{"there, plain", seg6, content, stored.Plain, func(s *site) { s.Codec = stored.Plain; s.mustPush(seg6, content) }, 8},
		{"torn", seg6, content, stored.Zstd, torn, 12},
		{"a history", fork2, fixture(t, small, fork2), stored.Zstd, func(s *site) { s.planted(seg9) }, 10},
		{"a second partial", seg6 + ".partial", content, stored.Zstd, func(s *site) { s.mustPush(seg6+".partial", changed(content)) }, 10},
		{"set aside", seg6, content, stored.Zstd, func(s *site) {
			s.mustPush(seg6, changed(content))
			if err := s.push(seg6, content); err == nil {
				t.Fatal("no conflict")
			}
			if _, err := s.SetAside(t.Context(), s.data, s.data.WALDir()+"/"+seg6, seg6); err != nil {
				t.Fatal(err)
			}
		}, 10},
	} {
		for _, applied := range []bool{false, true} {
			t.Run(fmt.Sprint(c.what, "/applied=", applied), func(t *testing.T) {
				t.Parallel()
				for n := 0; ; n++ {
					s := newSite(t, small, c.codec)
					c.before(s)
					reached := s.store.Fail(n, storetest.Fault{Err: errors.New("fault"), Applied: applied})
					err := s.push(c.name, c.content)
					if err == nil {
						s.holdsSomewhere(c.name, c.content, n)
					}
					if !reached() {
						if err != nil || n < c.least {
							t.Errorf("%d steps, %v", n, err)
						}
						return
					}
					s.store.Hook(nil)
					if err := s.push(c.name, c.content); err != nil {
						t.Errorf("step %d: retry: %v", n, err)
					}
					s.holdsSomewhere(c.name, c.content, n)
				}
			})
		}
	}
}

// holdsSomewhere fails unless the content is whole under its name, the name of
// another partial, or set aside.
func (s *site) holdsSomewhere(name string, content []byte, step int) {
	s.t.Helper()
	for _, stem := range []string{
		s.stem(name),
		strings.TrimSuffix(s.stem(name), "partial") + fmt.Sprintf("%x.partial", short(content)),
		s.cluster().Refused() + fmt.Sprintf("/%s.%x", name, short(content)),
	} {
		if got, there := s.content(stem); there && bytes.Equal(got, content) {
			return
		}
	}
	s.t.Errorf("step %d: nil, and the archive holds only %q", step, s.store.Names())
}

// Two pushers at once: of the same content both succeed, of different contents
// exactly one, and what it stored stays.
func TestTwoPushers(t *testing.T) {
	ours := fixture(t, small, seg6)
	theirs := changed(ours)
	for round := range 8 {
		for _, same := range []bool{true, false} {
			one := newSite(t, small, stored.Zstd)
			two := &site{Pusher: one.Pusher, t: t, data: dataDir(t, small), store: one.store}
			contents := [][]byte{ours, ours}
			if !same {
				contents[1] = theirs
			}
			var both sync.WaitGroup
			errs := make([]error, 2)
			for i, s := range []*site{one, two} {
				s.Pusher = &Pusher{Store: memory{one.store}, Codec: []stored.Codec{stored.Zstd, stored.Gzip}[(i+round)%2],
					HeaderCheck: true, Warn: func(text string) { t.Error(text) }}
				both.Add(1)
				go func() { defer both.Done(); errs[i] = s.push(seg6, contents[i]) }()
			}
			both.Wait()
			won := 0
			for i, err := range errs {
				if err == nil {
					won++
					one.holds(one.stem(seg6), contents[i])
				} else if same || !errors.Is(err, ErrConflict) {
					t.Error(err)
				}
			}
			if same && won != 2 || !same && won != 1 {
				t.Errorf("same content %v: %d succeeded", same, won)
			}
		}
	}
}
