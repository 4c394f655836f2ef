package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"walship/internal/basebackup"
	"walship/internal/stored"
	"walship/transport"
	"walship/transport/storetest"
)

const aBackup = "000000010000000000000006-20261122T114500Z"

// What the server gives is what is stored, in every codec, over many parts and
// more than one list.
func TestBackup(t *testing.T) {
	for _, codec := range stored.Written() {
		s := newBackups(t, codec)
		s.Config = []ConfigFile{{Path: "/etc/postgresql/17/main/postgresql.conf", Mode: 0o644, Content: []byte("port = 5432\n")}}
		var read int64
		s.Progress = func(n int64) { read += n }
		src := s.source()
		m, err := s.Run(t.Context(), src.begin)
		if err != nil {
			t.Fatal(err)
		}
		if !src.ended || !src.closed {
			t.Error("the source was not finished and closed")
		}
		back := s.holdsBackup(aBackup, src)
		if back.Size != m.Size || m.Size != read || m.Files != 19 || m.EndLSN != src.end.EndLSN || m.StartLSN != src.info.StartLSN {
			t.Errorf("%+v, %d bytes read", m, read)
		}
		if len(m.Lists) < 3 || m.Tablespaces[0].Size != 15000 {
			t.Errorf("%d lists, tablespaces %+v", len(m.Lists), m.Tablespaces)
		}
		config := tar.NewReader(bytes.NewReader(s.unpack(aBackup, *m.Config)))
		h, err := config.Next()
		content, _ := io.ReadAll(config)
		if err != nil || h.Name != "etc/postgresql/17/main/postgresql.conf" || h.Mode != 0o644 || string(content) != "port = 5432\n" {
			t.Errorf("config.tar: %+v %q %v", h, content, err)
		}
		// A file that is larger than a part is alone in its own.
		for _, list := range m.Lists {
			err := basebackup.ReadParts(bytes.NewReader(s.unpack(aBackup, list)), func(p basebackup.Part) error {
				var size int64
				for _, f := range p.Files {
					size += f.Size
				}
				if len(p.Files) > 4 || size > 10000 && len(p.Files) > 1 {
					t.Errorf("%s: %d files, %d bytes", p.Name, len(p.Files), size)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		}
	}
}

// Another one that begins within the same second gets a folder of its own.
func TestBackupsOfOneSecond(t *testing.T) {
	s := newBackups(t, stored.Zstd)
	for range 2 {
		if _, err := s.Run(t.Context(), s.source().begin); err != nil {
			t.Fatal(err)
		}
	}
	s.holdsBackup(aBackup, s.source())
	s.holdsBackup("000000010000000000000006-20261122T114501Z", s.source())
}

// If they meet nevertheless, one fails, and removes nothing of the other's.
func TestBackupsCollide(t *testing.T) {
	s := newBackups(t, stored.Zstd)
	theirs := s.root() + "/" + aBackup + "/base-000001.tar.zst"
	var once sync.Once
	src := s.source()
	src.at = func(call string) error {
		once.Do(func() {
			if err := s.store.Plant(theirs, []byte("theirs")); err != nil {
				t.Error(err)
			}
		})
		return nil
	}
	_, err := s.Run(t.Context(), src.begin)
	if err == nil || !strings.Contains(err.Error(), "another backup that began within the same second") {
		t.Error(err)
	}
	if left := s.left(); len(left) != 1 || s.root()+"/"+left[0] != theirs {
		t.Errorf("left: %q", left)
	}
}

// Each step of the store fails in turn, before it takes effect and after: nil
// means a whole backup, an error that there is none and that nothing of it is left.
func TestBackupFaults(t *testing.T) {
	for _, fault := range []struct {
		what    string
		err     error
		applied bool
	}{
		{"refused", errors.New("fault"), false},
		{"refused, applied", errors.New("fault"), true},
		{"unreachable", transport.ErrUnreachable, false},
		{"unreachable, applied", transport.ErrUnreachable, true},
	} {
		t.Run(fault.what, func(t *testing.T) {
			t.Parallel()
			retried := 0
			for n := 0; ; n++ {
				s := newBackups(t, stored.Zstd)
				src := s.brief()
				reached := s.store.Fail(n, storetest.Fault{Err: fault.err, Applied: fault.applied})
				_, err := s.Run(t.Context(), src.begin)
				if !src.closed {
					t.Fatalf("step %d: the server is left in backup mode", n)
				}
				s.store.Hook(nil)
				switch {
				case err == nil:
					s.holdsBackup(aBackup, src)
					if reached() {
						retried++
					}
				case len(s.left()) > 0:
					t.Errorf("step %d: %v; left: %q; said %q", n, err, s.left(), s.said)
				case !errors.Is(err, fault.err):
					t.Errorf("step %d: %v", n, err)
				}
				if !reached() {
					if err != nil || n < 30 {
						t.Errorf("%d steps, %v", n, err)
					}
					break
				}
				if err == nil {
					continue
				}
				again := s.brief()
				if _, err := s.Run(t.Context(), again.begin); err != nil {
					t.Errorf("step %d: again: %v", n, err)
				}
				s.holdsBackup(aBackup, again)
			}
			if unreachable := errors.Is(fault.err, transport.ErrUnreachable); unreachable != (retried > 0) {
				t.Errorf("%d faults were got over", retried)
			}
		})
	}
}

// An archive that stays away after a step: there is no backup, or it is not known
// and everything has been left where it is.
func TestBackupArchiveGone(t *testing.T) {
	for n := 0; ; n++ {
		s := newBackups(t, stored.Zstd)
		src := s.brief()
		reached := false
		var mu sync.Mutex
		s.store.Hook(func(step storetest.Step) storetest.Fault {
			mu.Lock()
			defer mu.Unlock()
			if step.N < n {
				return storetest.Fault{}
			}
			first := !reached
			reached = true
			return storetest.Fault{Err: transport.ErrUnreachable, Applied: first}
		})
		_, err := s.Run(t.Context(), src.begin)
		s.store.Hook(nil)
		if !reached {
			if err != nil {
				t.Error(err)
			}
			break
		}
		if err == nil || !errors.Is(err, transport.ErrUnreachable) {
			t.Fatalf("step %d: %v", n, err)
		}
		for _, id := range s.manifests() {
			if s.holdsBackup(id, src); !strings.Contains(err.Error(), "is not known") {
				t.Errorf("step %d: a backup is there, and nobody says so: %v", n, err)
			}
		}
		if len(s.left()) > 0 && len(s.manifests()) == 0 && !strings.Contains(fmt.Sprint(s.said, err), "left in "+s.root()) && !strings.Contains(err.Error(), "is not known") {
			t.Errorf("step %d: %v; left: %q; said: %q", n, err, s.left(), s.said)
		}
	}
}

// A server that breaks off in any of its calls.
func TestBackupSourceFails(t *testing.T) {
	for n := 0; ; n++ {
		s := newBackups(t, stored.Zstd)
		src := s.brief()
		calls, wrong := 0, errors.New("connection lost")
		if n%2 == 1 {
			wrong = io.ErrUnexpectedEOF // which readers take for an end
		}
		src.at = func(string) error {
			if calls++; calls > n {
				return wrong
			}
			return nil
		}
		_, err := s.Run(t.Context(), src.begin)
		if calls <= n {
			if err != nil {
				t.Error(err)
			}
			s.holdsBackup(aBackup, src)
			return
		}
		if !errors.Is(err, wrong) || len(s.left()) > 0 || !src.closed {
			t.Fatalf("call %d: %v; left: %q", n, err, s.left())
		}
	}
}

// Ctrl-C while the server says nothing.
func TestBackupInterrupted(t *testing.T) {
	s := newBackups(t, stored.Zstd)
	src := s.source()
	stop := errors.New("ended by a signal")
	ctx, cancel := context.WithCancelCause(t.Context())
	var inner context.Context
	calls := 0
	src.at = func(string) error {
		if calls++; calls < 20 {
			return nil
		}
		cancel(stop)
		<-inner.Done()
		return context.Cause(inner)
	}
	_, err := s.Run(ctx, func(ctx context.Context) (basebackup.Source, error) { inner = ctx; return src, nil })
	if !errors.Is(err, stop) || len(s.left()) > 0 || !src.closed {
		t.Errorf("%v; left: %q", err, s.left())
	}
	if text := fmt.Sprint(s.said); !strings.Contains(text, "has been removed") {
		t.Error(text)
	}
}

// What no server should give is not stored.
func TestBackupOfALiar(t *testing.T) {
	change := func(at int, f func(*anEntry)) func(*aSource) {
		return func(s *aSource) { f(&s.entries[at]) }
	}
	for what, lie := range map[string]func(*aSource){
		"gives more than":       change(15, func(e *anEntry) { e.Size-- }),
		"gives 10000 bytes of":  change(13, func(e *anEntry) { e.Size++ }),
		"size of -1":            change(12, func(e *anEntry) { e.Size = -1 }),
		`named "../x"`:          change(12, func(e *anEntry) { e.Path = "../x" }),
		`named "/etc/passwd"`:   change(12, func(e *anEntry) { e.Path = "/etc/passwd" }),
		`named "base/1/\xff"`:   change(12, func(e *anEntry) { e.Path = "base/1/\xff" }),
		"tablespace 7":          change(12, func(e *anEntry) { e.Tablespace = 7 }),
		`type "fifo"`:           change(12, func(e *anEntry) { e.Type = "fifo" }),
		"cannot be":             func(s *aSource) { s.end.EndLSN = 1 },
		"timeline 1 to 2":       func(s *aSource) { s.end.Timeline = 2 },
		"not this cluster":      func(s *aSource) { s.info.SegmentSize = 16 << 20 },
		"nothing of cluster 77": func(s *aSource) { s.info.SystemID = 77 },
	} {
		s := newBackups(t, stored.Zstd)
		src := s.source()
		lie(src)
		_, err := s.Run(t.Context(), src.begin)
		if err == nil || !strings.Contains(err.Error(), what) || len(s.left()) > 0 || !src.closed {
			t.Errorf("%s: %v; left: %q", what, err, s.left())
		}
	}
}

// A part that somebody removes before the end is missed.
func TestBackupLosesAPart(t *testing.T) {
	s := newBackups(t, stored.Zstd)
	src := s.source()
	src.at = func(call string) error {
		if call == "finish" {
			return s.store.Remove(t.Context(), s.root()+"/"+aBackup+"/base-000002.tar.zst")
		}
		return nil
	}
	_, err := s.Run(t.Context(), src.begin)
	if !errors.Is(err, ErrArchive) || !strings.Contains(err.Error(), "base-000002.tar.zst") || len(s.left()) > 0 {
		t.Errorf("%v; left: %q", err, s.left())
	}
}

// Only what has not been touched for a day and has no manifest is removed.
func TestRemoveAbandoned(t *testing.T) {
	s := newBackups(t, stored.Zstd)
	if _, err := s.Run(t.Context(), s.source().begin); err != nil {
		t.Fatal(err)
	}
	const old = 25 * time.Hour
	plant := func(id string, ages ...time.Duration) {
		for i, age := range ages {
			name := fmt.Sprintf("%s/%s/base-%06d.tar.zst", s.root(), id, i+1)
			if err := errors.Join(s.store.Plant(name, []byte("x")), s.store.Age(name, age)); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(s.store.Mkdir(t.Context(), s.root()+"/"+id), s.store.Age(s.root()+"/"+id, old)); err != nil {
			t.Fatal(err)
		}
	}
	const dead, living, empty = "000000010000000000000001-20261120T000000Z", "000000010000000000000002-20261120T000000Z", "000000010000000000000003-20261120T000000Z"
	plant(dead, old, old, old)
	plant(living, old, time.Hour)
	plant(empty)
	plant("not-a-backup", old)
	for _, name := range s.left() {
		if strings.HasPrefix(name, aBackup) {
			if err := s.store.Age(s.root()+"/"+name, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	before := len(s.left())
	if err := s.RemoveAbandoned(t.Context(), s.cluster().SystemID); err != nil {
		t.Fatal(err)
	}
	if left := s.left(); len(left) != before-3 || strings.Contains(fmt.Sprint(left), dead) {
		t.Errorf("left: %q", left)
	}
	s.holdsBackup(aBackup, s.source())
	for id, there := range map[string]bool{dead: false, empty: false, living: true} {
		err := s.store.List(t.Context(), s.root()+"/"+id, func(transport.FileInfo) error { return nil })
		if (err == nil) != there {
			t.Errorf("%s: %v", id, err)
		}
	}
	if len(s.said) != 2 {
		t.Errorf("said %q", s.said)
	}
}
