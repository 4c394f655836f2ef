package restore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"walship/internal/layout"
	"walship/internal/pgdata"
	"walship/internal/stored"
	"walship/transport/storetest"
)

// follower is a server that recovers through a Prefetcher.
type follower struct {
	*site
	p *Prefetcher
}

func newFollower(t testing.TB, memory int64) *follower {
	t.Helper()
	s := newSite(t, small)
	f := &follower{s, &Prefetcher{Fetcher: s.Fetcher, Memory: memory}}
	t.Cleanup(f.p.Close)
	return f
}

// get is a fetch, as the agent does it for a call.
func (f *follower) get(name string, mode pgdata.Mode) error {
	d := NewDelivery(f.path())
	defer d.Discard()
	err := f.p.Get(f.t.Context(), Request{Name: name, Path: f.path(), Data: f.data, Mode: mode}, f.Warn, d.Begin)
	if err != nil {
		return err
	}
	return d.Place()
}

// fill archives n segments from number 16 on, of that timeline, no two alike.
func (f *follower) fill(timeline, n int) (names []string, contents map[string][]byte) {
	f.t.Helper()
	contents = make(map[string][]byte)
	like := fixture(f.t, small, seg6)
	for i := range n {
		name := fmt.Sprintf("%08X00000000%08X", timeline, 16+i)
		b := f.segment(name, like)
		b[len(b)-1], b[len(b)-2] = byte(i), byte(timeline)
		f.archive(name, b, stored.Zstd)
		names, contents[name] = append(names, name), b
	}
	return names, contents
}

// settled waits until nothing is on its way any more.
func (f *follower) settled() {
	f.t.Helper()
	f.p.mu.Lock()
	servers := f.p.servers
	f.p.mu.Unlock()
	for _, s := range servers {
		s.mu.Lock()
		all := make([]*kept, 0, len(s.kept))
		for _, k := range s.kept {
			all = append(all, k)
		}
		s.mu.Unlock()
		for _, k := range all {
			<-k.done
		}
	}
}

const mb = 1 << 20

func TestPrefetch(t *testing.T) {
	for _, mode := range []pgdata.Mode{pgdata.ArchiveRecovery, pgdata.Standby} {
		for _, memory := range []int64{0, mb - 1, mb, 4 * mb, 128 * mb} {
			f := newFollower(t, memory)
			names, contents := f.fill(1, 40)
			for _, name := range names {
				f.delivered(f.get(name, mode), contents[name])
				if s := f.p.Stats(); s.Held > memory {
					t.Errorf("%d bytes kept, %d are allowed", s.Held, memory)
				}
			}
			s := f.p.Stats()
			if memory < mb && s.Fetched+s.Used != 0 || memory >= 4*mb && s.Used < 30 || s.Used > s.Fetched {
				t.Errorf("%v, %d MB: %+v", mode, memory/mb, s)
			}
			// What comes next is not there, and is not taken for absent once it is.
			next := fmt.Sprintf("0000000100000000%08X", 16+len(names))
			if err := f.get(next, mode); !errors.Is(err, ErrNotThere) {
				t.Errorf("%v: %v", mode, err)
			}
			f.settled()
			b := f.segment(next, contents[names[0]])
			f.archive(next, b, stored.Zstd)
			f.delivered(f.get(next, mode), b)
			f.p.Close()
			if s := f.p.Stats(); s.Held != 0 {
				t.Errorf("%d bytes kept in the end", s.Held)
			}
		}
	}
}

// A standby that streams asks once in a while: nothing is fetched for it.
func TestPrefetchQuiet(t *testing.T) {
	f := newFollower(t, 128*mb)
	names, contents := f.fill(1, 30)
	for i := 0; i < len(names); i += 5 {
		f.delivered(f.get(names[i], pgdata.Standby), contents[names[i]])
	}
	for _, mode := range []pgdata.Mode{pgdata.ByHand, pgdata.Ending} {
		for _, name := range names {
			f.delivered(f.get(name, mode), contents[name])
		}
	}
	if s := f.p.Stats(); s.Fetched != 0 {
		t.Errorf("%+v", s)
	}
}

// Recovery goes over to the timeline that its target lies on, and so does what
// is fetched for it; the old timeline's segment of the same number is not it.
func TestPrefetchTimelines(t *testing.T) {
	f := newFollower(t, 128*mb)
	one, contents := f.fill(1, 12)
	two, theirs := f.fill(2, 20)
	// Timeline 2 begins within segment 16+7.
	f.archive(fork2, []byte("1\t0/1780080\tno recovery target specified\n"), stored.Zstd)
	for i, name := range append(one[:7:7], two[7:]...) {
		want := contents[name]
		if want == nil {
			want = theirs[name]
		}
		f.settled()
		f.delivered(f.get(name, pgdata.ArchiveRecovery), want)
		if s := f.p.Stats(); s.Used != i {
			t.Errorf("%s was not kept: %+v", name, s)
		}
	}
}

// A history that comes up once segments are kept: they are withheld all the
// same, from a standby at once, in archive recovery a moment later at most.
func TestPrefetchForkGuard(t *testing.T) {
	for _, mode := range []pgdata.Mode{pgdata.Standby, pgdata.ArchiveRecovery} {
		f := newFollower(t, 128*mb)
		names, contents := f.fill(1, 12)
		for _, name := range names[:4] {
			f.delivered(f.get(name, mode), contents[name])
		}
		f.settled()
		f.archive(fork2, []byte("1\t0/1480080\tno recovery target specified\n"), stored.Zstd) // within segment 16+4
		if mode == pgdata.ArchiveRecovery {
			time.Sleep(historiesAge + 100*time.Millisecond)
		}
		kept := f.p.Stats().Held
		write(t, f.path(), old)
		if err := f.get(names[4], mode); !errors.Is(err, ErrWithheld) || kept == 0 {
			t.Errorf("%v: %v, %d bytes were kept", mode, err, kept)
		}
		f.untouched()
	}
}

// Damage and outages are no answers, kept or not.
func TestPrefetchTrouble(t *testing.T) {
	f := newFollower(t, 128*mb)
	names, contents := f.fill(1, 12)
	stow := f.archive(names[3], contents[names[3]], stored.Zstd)
	file, _ := f.store.Bytes(stow)
	torn := bytes.Clone(file)
	torn[len(torn)/2] ^= 1
	f.plant(stow, torn)
	for i, name := range names {
		if i == 3 {
			write(t, f.path(), old)
			f.doubt("a flipped bit", f.get(name, pgdata.ArchiveRecovery), stored.ErrDamaged, stow)
			f.plant(stow, file) // put right, it is delivered
		}
		f.delivered(f.get(name, pgdata.ArchiveRecovery), contents[name])
	}
	outage := errors.New("outage")
	f.p.Close()
	f.p = &Prefetcher{Fetcher: f.Fetcher, Memory: 128 * mb}
	for i, name := range names {
		if i == 5 {
			f.store.Hook(func(storetest.Step) storetest.Fault { return storetest.Fault{Err: outage} })
			f.p.Close()
			f.p = &Prefetcher{Fetcher: f.Fetcher, Memory: 128 * mb}
			write(t, f.path(), old)
			f.doubt("an outage", f.get(name, pgdata.ArchiveRecovery), outage, "outage")
			f.store.Hook(nil)
		}
		f.delivered(f.get(name, pgdata.ArchiveRecovery), contents[name])
	}
}

// An archive that is not this cluster's any more delivers nothing new.
func TestPrefetchIdentity(t *testing.T) {
	f := newFollower(t, 2*mb)
	names, contents := f.fill(1, 12)
	f.delivered(f.get(names[0], pgdata.ArchiveRecovery), contents[names[0]])
	f.settled()
	f.plant(f.cluster().IdentityFile(), []byte("{}"))
	write(t, f.path(), old)
	var last error
	for _, name := range names[1:5] { // two may be kept
		if last = f.get(name, pgdata.ArchiveRecovery); last != nil {
			break
		}
	}
	if !errors.Is(last, ErrArchive) {
		t.Errorf("got %v", last)
	}
}

// The file that an agent gets from a call may be written to more than once.
func TestDeliveryBeginsAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "RECOVERYXLOG")
	d := NewDelivery(path)
	defer d.Discard()
	for _, text := range []string{"a long content that is void", "short"} {
		w, err := d.Begin()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Place(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); string(got) != "short" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// An encrypted archive's segments are kept decrypted.
func TestPrefetchSealed(t *testing.T) {
	f := newFollower(t, 128*mb)
	c := f.data.Control
	id := layout.Identity{SystemID: c.SystemID, SegmentSize: c.SegmentSize, Codec: "zstd", Recipients: testIdentity().Recipient().String()}
	f.plant(f.cluster().IdentityFile(), id.Marshal())
	names, contents := f.fill(1, 12)
	for _, name := range names {
		if err := f.store.Remove(t.Context(), f.archive(name, contents[name], stored.Zstd)); err != nil {
			t.Fatal(err)
		}
		f.archive(name, contents[name], stored.Zstd.Sealed())
	}
	for _, name := range names {
		f.settled()
		f.delivered(f.get(name, pgdata.ArchiveRecovery), contents[name])
	}
	if s := f.p.Stats(); s.Used != len(names)-1 {
		t.Errorf("%+v of %d", s, len(names))
	}
}

// On a line that is too thin for all of them the segment that is asked for comes
// first: what is on its way behind it is given up.
func TestPrefetchThinLine(t *testing.T) {
	f := newFollower(t, 128*mb)
	names, contents := f.fill(1, 12)
	f.delivered(f.get(names[0], pgdata.ArchiveRecovery), contents[names[0]])
	f.settled()
	f.p.Close()
	f.p = &Prefetcher{Fetcher: f.Fetcher, Memory: 128 * mb}

	stow := f.archive(names[1], contents[names[1]], stored.Zstd)
	thin := make(chan struct{})
	f.store.Hook(func(step storetest.Step) storetest.Fault {
		if step.Name == stow {
			<-thin
		}
		return storetest.Fault{}
	})
	f.delivered(f.get(names[0], pgdata.ArchiveRecovery), contents[names[0]])
	done := make(chan error)
	go func() { done <- f.get(names[1], pgdata.ArchiveRecovery) }()
	for end := time.Now().Add(prefetchPatience + 10*time.Second); f.p.Stats().Held != mb; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d bytes are kept beside what is waited for", f.p.Stats().Held)
		}
	}
	close(thin)
	f.delivered(<-done, contents[names[1]])
}
