package archive

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"walship/internal/stored"
	"walship/transport"
	"walship/transport/storetest"
)

// slowest is a store that notes the order in which files are published, and in
// which of two segments that are next to each other the first one always takes
// longer: it waits until the one behind it has been written.
type slowest struct {
	memory
	mu      sync.Mutex
	order   []string
	written map[string]chan struct{}
}

func (s *slowest) of(name string) chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.written[name] == nil {
		s.written[name] = make(chan struct{})
	}
	return s.written[name]
}

func (s *slowest) Put(ctx context.Context, name string, src transport.Source) error {
	write := src.Write
	src.Write = func(w io.WriterAt) error {
		defer close(s.of(name))
		return write(w)
	}
	confirm := src.Confirm
	src.Confirm = func() error {
		base := path.Base(name)
		if behind, ok := strings.CutSuffix(base, "1.zst"); ok {
			<-s.of(path.Join(path.Dir(name), behind+"2.zst"))
		}
		if confirm == nil {
			return nil
		}
		return confirm()
	}
	err := s.memory.Put(ctx, name, src)
	if err == nil {
		s.mu.Lock()
		s.order = append(s.order, path.Base(name))
		s.mu.Unlock()
	}
	return err
}

// Files are published in an order that can be broken off: of each timeline its
// history and then its WAL, the oldest first, whatever takes longer; and what a
// timeline has left behind only after its history.
func TestSyncOrder(t *testing.T) {
	s := newSite(t, small, stored.Zstd)
	s.CloneGuard = false
	like := fixture(t, small, seg6)
	for _, name := range []string{
		"000000010000000000000001", "000000010000000000000002", "000000010000000000000003", "000000010000000000000004",
		"000000020000000000000003", "000000020000000000000004",
	} {
		s.mustPush(name, s.segment(name, like))
	}
	s.mustPush(fork2, []byte("1\t0/380000\tno recovery target specified\n"))

	to := &slowest{memory: memory{storetest.NewMemory()}, written: make(map[string]chan struct{})}
	copying := &Syncer{From: s.Store, To: to, Cluster: s.cluster(), HeaderCheck: true, Jobs: 4, Make: true}
	done, err := copying.Run(t.Context())
	if err != nil || done.Files != 7 || !done.Made {
		t.Fatal(done, err)
	}
	want := []string{"walship.json", "000000010000000000000001.zst", "000000010000000000000002.zst", "00000002.history.zst",
		"000000020000000000000003.zst", "000000020000000000000004.zst", "000000010000000000000003.zst", "000000010000000000000004.zst"}
	if !slices.Equal(to.order, want) {
		t.Errorf("published %q\nwant      %q", to.order, want)
	}
	for _, name := range s.store.Names() {
		ours, _ := s.store.Bytes(name)
		theirs, ok := to.Bytes(name)
		if !ok || string(ours) != string(theirs) {
			t.Errorf("%s: there %v, the same %v", name, ok, string(ours) == string(theirs))
		}
	}
}

// Whichever step fails, applied or not, a second run comes to its end, and the
// archive that is copied to never has a gap before its last segment.
func TestSyncFaults(t *testing.T) {
	s := newSite(t, small, stored.Zstd)
	like := fixture(t, small, seg6)
	for _, name := range []string{seg6, seg7, "000000010000000000000008"} {
		s.mustPush(name, s.segment(name, like))
	}
	broken := errors.New("broken")
	for step := 1; ; step++ {
		for _, applied := range []bool{false, true} {
			to := memory{storetest.NewMemory()}
			n, failed := 0, false
			var mu sync.Mutex
			to.Hook(func(storetest.Step) storetest.Fault {
				mu.Lock()
				defer mu.Unlock()
				if n++; n == step {
					failed = true
					return storetest.Fault{Err: broken, Applied: applied}
				}
				return storetest.Fault{}
			})
			copying := &Syncer{From: s.Store, To: to, Cluster: s.cluster(), Jobs: 2, Make: true, pauses: []time.Duration{0}}
			_, err := copying.Run(t.Context())
			if !failed {
				if err != nil || step < 20 {
					t.Fatalf("step %d: %v", step, err)
				}
				return
			}
			if inv, err := Take(t.Context(), to, s.cluster(), Look{}); err == nil && len(inv.Gaps) > 0 {
				t.Errorf("step %d, applied %v: %v", step, applied, inv.Gaps)
			}
			to.Hook(nil)
			if _, err := copying.Run(t.Context()); err != nil {
				t.Errorf("step %d, applied %v: again: %v", step, applied, err)
			}
			for _, name := range s.store.Names() {
				ours, _ := s.store.Bytes(name)
				if theirs, ok := to.Bytes(name); !ok || string(ours) != string(theirs) {
					t.Errorf("step %d, applied %v: %s: there %v", step, applied, name, ok)
				}
			}
		}
	}
}

// A source that breaks off is no damage of the file's, and is asked again.
func TestSyncSourceBreaks(t *testing.T) {
	s := newSite(t, small, stored.Zstd)
	s.mustPush(seg6, fixture(t, small, seg6))
	from := &breaking{Store: s.Store, left: 2}
	to := memory{storetest.NewMemory()}
	copying := &Syncer{From: from, To: to, FromName: "A", ToName: "B", Cluster: s.cluster(), Jobs: 1, Make: true, pauses: []time.Duration{0}}
	if done, err := copying.Run(t.Context()); !errors.Is(err, transport.ErrUnreachable) || len(done.Faults) > 0 || !strings.HasPrefix(err.Error(), "A: ") {
		t.Errorf("%+v, %v", done, err)
	}
	from.left = 1
	if done, err := copying.Run(t.Context()); err != nil || done.Files != 1 || len(done.Faults) > 0 {
		t.Errorf("%+v, %v", done, err)
	}
	if _, err := (&Syncer{From: s.Store, To: memory{storetest.NewMemory()}, Cluster: s.cluster()}).Run(t.Context()); !errors.Is(err, ErrArchive) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an archive that is not there: %v", err)
	}
}

// breaking is a store whose next files break off in the middle.
type breaking struct {
	Store
	left int
}

func (b *breaking) Open(ctx context.Context, name string) (transport.File, error) {
	f, err := b.Store.Open(ctx, name)
	if err == nil && b.left > 0 {
		b.left--
		f = &half{File: f, left: 1000}
	}
	return f, err
}

type half struct {
	transport.File
	left int
}

func (h *half) Read(p []byte) (int, error) {
	if h.left == 0 {
		return 0, transport.ErrUnreachable
	}
	n, err := h.File.Read(p[:min(len(p), h.left)])
	h.left -= n
	return n, err
}
