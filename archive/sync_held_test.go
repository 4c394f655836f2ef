package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"walship/internal/stored"
	"walship/transport"
	"walship/transport/storetest"
)

// twoSites is two archives of one cluster, and what copies from the first.
type twoSites struct {
	a, b *site
	*Syncer
}

func newTwoSites(t *testing.T, codec stored.Codec) *twoSites {
	s := &twoSites{a: newSite(t, small, codec), b: newSite(t, small, codec)}
	s.a.CloneGuard, s.b.CloneGuard = false, false
	s.a.Codec, s.b.Codec = inner(codec), inner(codec)
	s.Syncer = &Syncer{From: s.a.Store, To: memory{s.b.store}, FromName: "A", ToName: "B", Cluster: s.a.cluster(), HeaderCheck: true, Jobs: 4}
	return s
}

// names are the base names, without an extension, of the WAL and the histories in
// an archive.
func (s *site) names() (all []string) {
	for _, name := range s.store.Names() {
		if strings.Contains(name, "/wal/") || strings.Contains(name, "/history/") {
			all = append(all, stemOf(path.Base(name)))
		}
	}
	return all
}

func segmentName(tl, n int) string { return fmt.Sprintf("%08X%016X", tl, n) }

// push pushes segments of a timeline, each with a content that seed tells apart.
func (s *twoSites) push(to *site, tl int, seed byte, numbers ...int) {
	for _, n := range numbers {
		content := to.segment(segmentName(tl, n), fixture(to.t, small, seg6))
		content[len(content)-1] = seed
		to.mustPush(segmentName(tl, n), content)
	}
}

// Behind other content nothing is copied: neither later WAL of the timeline, nor
// what has left it there or later, nor backups that need that.
func TestSyncHeldBehindConflict(t *testing.T) {
	for _, jobs := range []int{1, 4} {
		s := newTwoSites(t, stored.Zstd)
		s.Jobs = jobs
		s.push(s.a, 1, 1, 1, 2, 3, 4, 5, 6)
		s.push(s.b, 1, 1, 2)
		s.push(s.b, 1, 2, 4)
		s.push(s.a, 2, 1, 3, 4) // has left timeline 1 in segment 3
		s.push(s.a, 3, 1, 5, 6)
		s.a.mustPush("00000002.history", []byte("1\t0/380000\tx\n"))
		s.a.mustPush("00000003.history", []byte("1\t0/580000\tx\n"))
		done, err := s.Run(t.Context())
		// Timeline 2 has left before the conflict, timeline 3 behind it.
		want := []string{"00000002.history", segmentName(1, 1), segmentName(1, 2), segmentName(1, 3), segmentName(1, 4), segmentName(2, 3), segmentName(2, 4)}
		got := s.b.names()
		slices.Sort(got)
		slices.Sort(want)
		if err != nil || len(done.Faults) != 1 || done.Faults[0].Kind != Conflict || done.Held != 5 || !slices.Equal(got, want) {
			t.Errorf("%d jobs: %+v, %v\nthere %q\nwant  %q", jobs, done, err, got, want)
		}
		dry := *s.Syncer
		dry.DryRun = true
		if again, err := dry.Run(t.Context()); err != nil || again.Files != 0 || again.Held != 5 {
			t.Errorf("%d jobs, dry: %+v, %v", jobs, again, err)
		}
	}
	s := newTwoSites(t, stored.Zstd)
	s.push(s.a, 1, 1, 1, 2, 3)
	s.push(s.a, 2, 1, 3, 4)
	s.a.mustPush("00000002.history", []byte("1\t0/380000\tx\n"))
	s.b.mustPush("00000002.history", []byte("1\t0/280000\tanother\n"))
	done, err := s.Run(t.Context())
	if got, want := s.b.names(), []string{"00000002.history", segmentName(1, 1), segmentName(1, 2)}; err != nil || done.Held != 3 || !slices.Equal(got, want) {
		t.Errorf("another history: %+v, %v, there %q", done, err, got)
	}
}

// late is a store that tells of a file only when another has been written.
type late struct {
	memory
	of, after string
	written   chan struct{}
}

func (l *late) Head(ctx context.Context, name string, n int) (transport.Head, error) {
	if strings.Contains(name, l.of) {
		<-l.written
	}
	return l.memory.Head(ctx, name, n)
}

func (l *late) Put(ctx context.Context, name string, src transport.Source) error {
	write := src.Write
	src.Write = func(w io.WriterAt) error {
		err := write(w)
		if strings.Contains(name, l.after) {
			close(l.written)
		}
		return err
	}
	return l.memory.Put(ctx, name, src)
}

// What is on its way when the conflict is found is not published either.
func TestSyncHeldOnItsWay(t *testing.T) {
	s := newTwoSites(t, stored.Zstd)
	s.push(s.a, 1, 1, 1, 2, 3)
	s.push(s.b, 1, 2, 2)
	s.To = &late{memory: memory{s.b.store}, of: segmentName(1, 2), after: segmentName(1, 3), written: make(chan struct{})}
	done, err := s.Run(t.Context())
	if got, want := s.b.names(), []string{segmentName(1, 1), segmentName(1, 2)}; err != nil || done.Held != 1 || !slices.Equal(got, want) {
		t.Errorf("%+v, %v, there %q", done, err, got)
	}
}

// Without its history a timeline is not copied, nor what it may have left behind:
// who recovers from there would be told by a healthy archive that there is no
// other timeline.
func TestSyncDamagedHistory(t *testing.T) {
	whole := func() *twoSites {
		s := newTwoSites(t, stored.Zstd)
		s.push(s.a, 1, 1, 1, 2, 3, 4)
		s.push(s.a, 2, 1, 3, 4)
		s.a.mustPush("00000002.history", []byte("1\t0/380000\tx\n"))
		return s
	}
	harm := func(s *twoSites) {
		name := s.a.stem("00000002.history") + ".zst"
		b, _ := s.a.store.Bytes(name)
		b = bytes.Clone(b)
		b[len(b)-6] ^= 1
		if err := s.a.store.Plant(name, b); err != nil {
			t.Fatal(err)
		}
	}
	s := whole()
	harm(s)
	dry := *s.Syncer
	dry.DryRun = true
	if done, err := dry.Run(t.Context()); err != nil || len(done.Faults) != 1 || done.Files != 2 || done.Held != 4 {
		t.Errorf("dry: %+v, %v", done, err)
	}
	done, err := s.Run(t.Context())
	if got, want := s.b.names(), []string{segmentName(1, 1), segmentName(1, 2)}; err != nil || len(done.Faults) != 1 || done.Faults[0].Kind != Damaged || done.Held != 4 || !slices.Equal(got, want) {
		t.Errorf("%+v, %v, there %q", done, err, got)
	}

	// Where it is whole there nothing is held back.
	s = whole()
	s.b.mustPush("00000002.history", []byte("1\t0/380000\tx\n"))
	harm(s)
	done, err = s.Run(t.Context())
	if got := s.b.names(); err != nil || len(done.Faults) != 1 || done.Held != 0 || len(got) != 7 {
		t.Errorf("whole there: %+v, %v, there %q", done, err, got)
	}

	// Nor where a later one names it: who lacks it knows then that it is missing.
	s = whole()
	s.a.mustPush("00000003.history", []byte("1\t0/380000\tx\n2\t0/480000\tx\n"))
	s.push(s.a, 3, 1, 4, 5)
	harm(s)
	done, err = s.Run(t.Context())
	if got := s.b.names(); err != nil || len(done.Faults) != 1 || done.Held != 0 || len(got) != 9 {
		t.Errorf("named later: %+v, %v, there %q", done, err, got)
	}
}

// An encrypted archive gets nothing that is not, unless it is asked for.
func TestSyncCleartext(t *testing.T) {
	a := newBackups(t, stored.Zstd)
	if _, err := a.Run(t.Context(), a.source().begin); err != nil {
		t.Fatal(err)
	}
	a.CloneGuard = false
	a.mustPush(fork2, []byte("1\t0/F80000\tx\n"))
	clear := 0
	for _, name := range a.store.Names() {
		if strings.Contains(name, "/wal/") {
			clear++
		}
	}
	if _, _, err := SetRecipients(t.Context(), memory{a.store}, a.site.cluster(), recipientsOf(testIdentity())); err != nil {
		t.Fatal(err)
	}
	like := fixture(t, small, seg6)
	a.Pusher.Recipients = recipientsOf(testIdentity())
	a.mustPush("00000001000000000000000C", a.segment("00000001000000000000000C", like))

	to := memory{storetest.NewMemory()}
	s := &Syncer{From: memory{a.store}, To: to, Cluster: a.site.cluster(), Jobs: 2, Make: true}
	done, err := s.Run(t.Context())
	if err != nil || len(done.Faults) != clear+1 || done.Files != 2 || done.Backups != 0 {
		t.Errorf("%+v, %v", done, err)
	}
	for _, f := range done.Faults {
		if f.Kind != Cleartext {
			t.Errorf("%+v", f)
		}
	}
	for _, name := range to.Names() {
		if !strings.HasSuffix(name, ".age") && !strings.HasSuffix(name, "walship.json") && !strings.Contains(name, "/history/") {
			t.Errorf("%s was copied", name)
		}
	}
	s.Cleartext = true
	done, err = s.Run(t.Context())
	if err != nil || len(done.Faults) != 0 || done.Backups != 1 || len(to.Names()) != len(a.store.Names()) {
		t.Errorf("asked for: %+v, %v", done, err)
	}
}

// Of two contents that are vouched for under one name the one that is there counts.
func TestSyncStrayVoucher(t *testing.T) {
	s := newTwoSites(t, stored.Plain)
	s.push(s.a, 1, 1, 1)
	s.push(s.b, 1, 2, 1)
	for _, name := range s.a.store.Names() { // as a sync leaves it that was killed before the content came
		if strings.HasSuffix(name, ".sha256") {
			b, _ := s.a.store.Bytes(name)
			if err := s.b.store.Plant(name, b); err != nil {
				t.Fatal(err)
			}
		}
	}
	done, err := s.Run(t.Context())
	if err != nil || len(done.Faults) != 1 || done.Faults[0].Kind != Conflict {
		t.Errorf("%+v, %v", done, err)
	}
}

// What an earlier call has published and not come to sync is synced before it
// counts as there: in each folder that holds something.
func TestSyncSettles(t *testing.T) {
	a := wholeArchive(t, stored.Zstd)
	to := memory{storetest.NewMemory()}
	copying := &Syncer{From: memory{a.store}, To: to, Cluster: a.site.cluster(), Jobs: 2, Make: true}
	if _, err := copying.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	stray := path.Join(a.site.cluster().WAL(), "0000000100000000", "0-stray")
	if err := to.Plant(stray, []byte("x")); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	synced := make(map[string]bool)
	to.Hook(func(step storetest.Step) storetest.Fault {
		if step.Name == stray { // it is nobody's, and may be anything
			return storetest.Fault{Err: errors.New("no regular file")}
		}
		if step.Op == "sync" {
			mu.Lock()
			synced[path.Dir(step.Name)] = true
			mu.Unlock()
		}
		return storetest.Fault{}
	})
	done, err := copying.Run(t.Context())
	to.Hook(nil)
	if err != nil || done.Files != 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	for _, name := range to.Names() {
		if dir := path.Dir(name); !synced[dir] {
			t.Errorf("%s was not synced; %v", dir, synced)
		}
	}
}
