package archive

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"walship/internal/stored"
	"walship/transport"
	"walship/transport/storetest"
)

// archiver is a server's archiver with a backlog, and an Ahead that serves it.
type archiver struct {
	*site
	ahead      *Ahead
	connection atomic.Uint64
	names      []string // in the order in which they are handed over
	contents   map[string][]byte
}

// newArchiver has n segments waiting, whose last change is long past.
func newArchiver(t testing.TB, codec stored.Codec, n int) *archiver {
	t.Helper()
	a := &archiver{site: newSite(t, small, codec), contents: make(map[string][]byte)}
	a.connection.Store(1)
	a.ahead = &Ahead{Pusher: a.Pusher, Connection: a.connection.Load}
	like := fixture(t, small, seg6)
	for i := range n {
		name := fmt.Sprintf("0000000100000000%08X", 16+i)
		b := a.segment(name, like)
		b[len(b)-1] = byte(i) // no two alike
		a.wait(name, b)
	}
	return a
}

// wait puts a file where it waits for the archiver.
func (a *archiver) wait(name string, content []byte) {
	a.t.Helper()
	path := filepath.Join(a.data.WALDir(), name)
	write(a.t, path, content)
	write(a.t, filepath.Join(a.data.WALDir(), "archive_status", name+".ready"), nil)
	a.names = append(a.names, name)
	a.contents[name] = content
}

// hand hands a file over, as the archiver does.
func (a *archiver) hand(name string) error {
	return a.ahead.Push(context.Background(), a.data, filepath.Join(a.data.WALDir(), name), name, a.Warn)
}

// done renames the mark, as the archiver does after a success.
func (a *archiver) done(name string) {
	status := filepath.Join(a.data.WALDir(), "archive_status", name)
	if err := os.Rename(status+".ready", status+".done"); err != nil {
		a.t.Fatal(err)
	}
}

// settle waits until the file is visible in the archive.
func (a *archiver) settle(name string) {
	a.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if _, there := a.store.Bytes(a.stem(name) + ".zst"); there {
			return
		}
		if time.Now().After(deadline) {
			a.t.Fatalf("%s does not come; the archive holds %q", name, a.store.Names())
		}
	}
}

// old lets the backlog come to an age at which its files are known by sight.
func old() { time.Sleep(150 * time.Millisecond) }

// inOrder watches that nothing is visible whose predecessor is not. The hook
// sees each step before it takes effect.
func (a *archiver) inOrder(fault func(storetest.Step) storetest.Fault) {
	a.store.Hook(func(step storetest.Step) storetest.Fault {
		if step.Op == "put.publish" {
			at := slices.IndexFunc(a.names, func(n string) bool { return strings.HasPrefix(step.Name, a.stem(n)+".") })
			for _, before := range a.names[:max(at, 0)] {
				if _, there := a.store.Bytes(a.stem(before) + ".zst"); !there {
					a.t.Errorf("%s is published before %s", step.Name, before)
				}
			}
		}
		return fault(step)
	})
}

func TestAhead(t *testing.T) {
	for _, codec := range []stored.Codec{stored.Zstd, stored.Gzip, stored.Plain, stored.Zstd.Sealed()} {
		a := newArchiver(t, codec, 30)
		old()
		if codec == stored.Zstd {
			a.inOrder(func(storetest.Step) storetest.Fault { return storetest.Fault{} })
		}
		for _, name := range a.names {
			if err := a.hand(name); err != nil {
				t.Fatalf("%s: %s: %v", codec, name, err)
			}
			a.holds(a.stem(name), a.contents[name])
			a.done(name)
		}
		if s := a.ahead.Stats(); s.Used < 20 || s.Used > s.Published {
			t.Errorf("%s: %+v of %d segments", codec, s, len(a.names))
		}
		if left := leftovers(a.store); left != nil {
			t.Errorf("%s: left: %q", codec, left)
		}
	}
}

func leftovers(m *storetest.Memory) (left []string) {
	for _, name := range m.Names() {
		if strings.Contains(name, "/tmp/") {
			left = append(left, name)
		}
	}
	return left
}

// What was published ahead is taken for archived only as long as the file is the
// same, and the archive too.
func TestAheadStale(t *testing.T) {
	for what, spoil := range map[string]func(a *archiver, name string) (want error){
		"another file": func(a *archiver, name string) error {
			path := filepath.Join(a.data.WALDir(), name)
			if err := os.Rename(path, path+".old"); err != nil {
				t.Fatal(err)
			}
			write(t, path, changed(a.contents[name]))
			return ErrConflict
		},
		"changed in place": func(a *archiver, name string) error {
			path := filepath.Join(a.data.WALDir(), name)
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			write(t, path, changed(a.contents[name]))
			if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil { // which hides nothing
				t.Fatal(err)
			}
			return ErrConflict
		},
		"another disk behind another connection": func(a *archiver, name string) error {
			if err := a.store.Remove(t.Context(), a.stem(name)+".zst"); err != nil {
				t.Fatal(err)
			}
			a.connection.Add(1)
			return nil
		},
		"another archive behind another connection": func(a *archiver, name string) error {
			if err := a.store.Remove(t.Context(), a.cluster().IdentityFile()); err != nil {
				t.Fatal(err)
			}
			a.connection.Add(1)
			return ErrArchive
		},
		"another disk behind the same connection": func(a *archiver, name string) error {
			if err := a.store.Remove(t.Context(), a.stem(name)+".zst"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(aheadTrust + 100*time.Millisecond)
			return nil
		},
		"no connection": func(a *archiver, name string) error {
			if err := a.store.Remove(t.Context(), a.stem(name)+".zst"); err != nil {
				t.Fatal(err)
			}
			a.connection.Store(0)
			return nil
		},
	} {
		for _, aged := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/aged=%v", what, aged), func(t *testing.T) {
				t.Parallel()
				a := newArchiver(t, stored.Zstd, 3)
				if aged {
					old()
				}
				if err := a.hand(a.names[0]); err != nil {
					t.Fatal(err)
				}
				a.done(a.names[0])
				name := a.names[1]
				a.settle(name)
				a.settle(a.names[2])
				want := spoil(a, name)
				err := a.hand(name)
				if !errors.Is(err, want) || (err == nil) != (want == nil) {
					t.Errorf("got %v, want %v", err, want)
				}
				if err == nil {
					a.holds(a.stem(name), a.contents[name])
				}
			})
		}
	}
}

// What was published a while ago is asked for of the archive, and needs no second
// push, nor to be read again.
func TestAheadOld(t *testing.T) {
	for _, codec := range []stored.Codec{stored.Zstd, stored.Gzip, stored.Plain} {
		a := newArchiver(t, codec, 3)
		old()
		if err := a.hand(a.names[0]); err != nil {
			t.Fatal(err)
		}
		a.done(a.names[0])
		for deadline := time.Now().Add(time.Minute); a.ahead.Stats().Published < 2 && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(aheadTrust + 100*time.Millisecond)
		a.store.Hook(func(step storetest.Step) storetest.Fault {
			if strings.HasPrefix(step.Op, "put.") {
				t.Errorf("%s: %+v", codec, step)
			}
			return storetest.Fault{}
		})
		if err := a.hand(a.names[1]); err != nil || a.ahead.Stats().Used != 1 {
			t.Errorf("%s: %v, %+v", codec, err, a.ahead.Stats())
		}
	}
}

// A call for a later segment that comes to its end while the archiver's is under
// way lets nothing pass that.
func TestAheadOvertaken(t *testing.T) {
	a := newArchiver(t, stored.Zstd, 6)
	old()
	reached := map[string]chan struct{}{a.names[0]: make(chan struct{}), a.names[1]: make(chan struct{})}
	goOn := map[string]chan struct{}{a.names[0]: make(chan struct{}), a.names[1]: make(chan struct{})}
	var once [2]sync.Once
	a.store.Hook(func(step storetest.Step) storetest.Fault {
		for i := range 2 {
			if name := a.names[i]; step.Op == "put.publish" && strings.HasPrefix(step.Name, a.stem(name)+".") {
				once[i].Do(func() { close(reached[name]); <-goOn[name] })
			}
		}
		return storetest.Fault{}
	})
	handed := make(chan error, 2)
	go func() { handed <- a.hand(a.names[1]) }() // somebody's own
	<-reached[a.names[1]]
	go func() { handed <- a.hand(a.names[0]) }() // the archiver's
	<-reached[a.names[0]]
	close(goOn[a.names[1]])
	if err := <-handed; err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond)
	if _, there := a.store.Bytes(a.stem(a.names[2]) + ".zst"); there {
		t.Errorf("%s is published before %s", a.names[2], a.names[0])
	}
	close(goOn[a.names[0]])
	if err := <-handed; err != nil {
		t.Fatal(err)
	}
	for _, name := range a.names {
		if err := a.hand(name); err != nil {
			t.Fatal(err)
		}
		a.holds(a.stem(name), a.contents[name])
		a.done(name)
	}
	a.ahead.mu.Lock()
	defer a.ahead.mu.Unlock()
	for _, l := range a.ahead.lines {
		if len(l.jobs) > 0 {
			t.Errorf("left under way: %v", l.jobs)
		}
	}
	if left := leftovers(a.store); left != nil {
		t.Errorf("left: %q", left)
	}
}

// What was uploaded before the server was set back is not published after.
func TestAheadSetBack(t *testing.T) {
	a := newArchiver(t, stored.Zstd, 4)
	old()
	foreign := slices.Clone(a.contents[a.names[1]])
	foreign[30]++ // of the system identifier
	path := func(name string) string { return filepath.Join(a.data.WALDir(), name) }
	write(t, path(a.names[1]), foreign)
	if err := a.hand(a.names[0]); err != nil {
		t.Fatal(err)
	}
	a.done(a.names[0])
	if err := a.hand(a.names[1]); !errors.Is(err, ErrRefused) {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond) // the next one waits for its turn

	write(t, path(a.names[1]), a.contents[a.names[1]])
	a.contents[a.names[2]] = changed(a.contents[a.names[2]])
	if err := os.Rename(path(a.names[2]), path("before")); err != nil {
		t.Fatal(err)
	}
	write(t, path(a.names[2]), a.contents[a.names[2]])
	for _, name := range a.names[1:] {
		if err := a.hand(name); err != nil {
			t.Fatal(err)
		}
		a.holds(a.stem(name), a.contents[name])
		a.done(name)
	}
}

// A file that has just been written could change without its times telling; its
// content is compared then.
func TestAheadFresh(t *testing.T) {
	a := newArchiver(t, stored.Zstd, 2)
	done := pushed{}
	f, err := openFile(a.data, filepath.Join(a.data.WALDir(), a.names[1]), a.names[1])
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	if done.identity, done.sure, err = f.identityNow(time.Now()); err != nil || done.sure {
		t.Errorf("just written, and sure: %v, %v", done.sure, err)
	}
	if done.sum, err = f.sum(); err != nil {
		t.Fatal(err)
	}
	if same, err := done.is(f.path); !same || err != nil {
		t.Errorf("%v, %v", same, err)
	}
	done.sum[0]++
	if same, _ := done.is(f.path); same {
		t.Error("other content passes for the same")
	}
}

// What is no plain segment is left to its own call, and holds back what is
// behind it: also one that will be refused, or is there already with other
// content.
func TestAheadBarrier(t *testing.T) {
	for what, make := range map[string]func(a *archiver) (name string, want error){
		"a partial segment": func(a *archiver) (string, error) { return a.names[2] + ".partial", nil },
		"a foreign segment": func(a *archiver) (string, error) {
			b := a.contents[a.names[2]]
			b[30]++ // of the system identifier
			write(t, filepath.Join(a.data.WALDir(), a.names[2]), b)
			return a.names[2], ErrRefused
		},
		"a conflict": func(a *archiver) (string, error) {
			other := filepath.Join(t.TempDir(), "other")
			write(t, other, changed(a.contents[a.names[2]]))
			if err := a.Push(t.Context(), a.data, other, a.names[2]); err != nil {
				t.Fatal(err)
			}
			return a.names[2], ErrConflict
		},
	} {
		t.Run(what, func(t *testing.T) {
			a := newArchiver(t, stored.Zstd, 6)
			barrier, want := make(a)
			if !slices.Contains(a.names, barrier) {
				a.wait(barrier, a.contents[a.names[2]])
				slices.Sort(a.names)
			}
			for _, name := range a.names {
				err := a.hand(name)
				if name != barrier {
					if err != nil {
						t.Fatal(name, err)
					}
					a.done(name)
					continue
				}
				if !errors.Is(err, want) || (err == nil) != (want == nil) {
					t.Errorf("%s: %v, want %v", name, err, want)
				}
				if want == nil {
					a.done(name)
					continue
				}
				for range 3 { // as the archiver asks again
					time.Sleep(20 * time.Millisecond)
					if err := a.hand(name); !errors.Is(err, want) {
						t.Errorf("%s again: %v", name, err)
					}
				}
				for _, behind := range a.names[slices.Index(a.names, name)+1:] {
					if _, there := a.content(a.stem(behind)); there {
						t.Errorf("%s is published though %s is not", behind, name)
					}
				}
				break
			}
		})
	}
}

// Steps fail at random, before they take effect and after, and the connection is
// made anew at random; the archiver asks again as it does. What it is told is in
// the archive is there, whole; nothing is visible before its predecessor.
func TestAheadFaults(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 1))
			a := newArchiver(t, stored.Zstd, 14)
			if seed%2 == 0 {
				old()
			}
			faults := make(chan storetest.Fault, 1000)
			for range cap(faults) {
				var f storetest.Fault
				switch random.IntN(12) {
				case 0:
					f.Err = errors.New("fault")
				case 1:
					f.Err, f.Applied = errors.New("fault"), true
				case 2:
					f.Err, f.Applied = transport.ErrUnreachable, random.IntN(2) == 0
				}
				faults <- f
			}
			a.inOrder(func(step storetest.Step) storetest.Fault {
				select {
				case f := <-faults:
					if f.Err != nil && errors.Is(f.Err, transport.ErrUnreachable) {
						a.connection.Add(1)
					}
					return f
				default:
					return storetest.Fault{}
				}
			})
			for _, name := range a.names {
				for try := 0; ; try++ {
					err := a.hand(name)
					if err == nil {
						break
					}
					if try == 200 {
						t.Fatal(name, err)
					}
				}
				a.holds(a.stem(name), a.contents[name])
				a.done(name)
			}
		})
	}
}

// An agent that ends leaves nothing behind of what it had begun.
func TestAheadClose(t *testing.T) {
	a := newArchiver(t, stored.Zstd, 8)
	published := make(chan struct{})
	a.store.Hook(func(step storetest.Step) storetest.Fault {
		if step.Op == "put.publish" && strings.HasPrefix(step.Name, a.stem(a.names[0])) {
			<-published // what is behind it waits
		}
		return storetest.Fault{}
	})
	handed := make(chan error, 1)
	go func() { handed <- a.hand(a.names[0]) }()
	for len(leftovers(a.store)) < 5 {
		time.Sleep(time.Millisecond)
	}
	ended := make(chan struct{})
	go func() { a.ahead.Close(t.Context()); close(ended) }()
	<-ended
	close(published)
	if err := <-handed; err != nil {
		t.Error(err)
	}
	if left := leftovers(a.store); left != nil {
		t.Errorf("left: %q", left)
	}
	if err := a.hand(a.names[1]); err != nil { // by itself
		t.Error(err)
	}
}
