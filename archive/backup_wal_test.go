package archive

import (
	"errors"
	"strings"
	"testing"
	"time"

	"walship/internal/stored"
	"walship/transport"
	"walship/transport/storetest"
	"walship/walname"
)

const seg8 = "000000010000000000000008"

// The backup exists only once its last segment is there, however it is stored.
func TestBackupWaitsForWAL(t *testing.T) {
	for _, codec := range stored.Written() {
		s := newBackups(t, stored.Zstd)
		src := s.source()
		src.end.EndLSN += walname.LSN(s.data.Geometry().SegmentSize)
		s.WALLimit = time.Hour
		waited := 0
		s.Waiting = func(w WALWait) {
			if w.Missing != seg8 || len(s.manifests()) > 0 {
				t.Errorf("%+v, backups %q", w, s.manifests())
			}
			if waited++; waited == 2 {
				s.other(codec).mustPush(seg8, s.segment(seg8, fixture(t, small, seg6)))
			}
		}
		if _, err := s.Run(t.Context(), src.begin); err != nil || waited != 2 {
			t.Fatal(waited, err)
		}
		s.holdsBackup(aBackup, src)
	}
}

// other is the same archive as a pusher sees it that stores in another codec.
func (s *backups) other(codec stored.Codec) *site {
	id, _, err := Init(s.t.Context(), s.Pusher.Store, s.data, inner(codec), recipientsFor(codec))
	if err != nil {
		s.t.Fatal(err)
	}
	id.Codec, id.Recipients = string(inner(codec)), strings.Join(recipientsFor(codec).Texts(), "\n")
	if err := s.store.Plant(s.cluster().IdentityFile(), id.Marshal()); err != nil {
		s.t.Fatal(err)
	}
	return s.site
}

// A position at a segment's very end does not need the next one.
func TestBackupEndsWithASegment(t *testing.T) {
	s := newBackups(t, stored.Zstd)
	src := s.source()
	seg, _ := walname.Parse(seg8)
	src.end.EndLSN = s.data.Geometry().Start(seg.Segment)
	if _, err := s.Run(t.Context(), src.begin); err != nil {
		t.Fatal(err)
	}
	src = s.source()
	src.end.EndLSN = s.data.Geometry().Start(seg.Segment) + 1
	if _, err := s.Run(t.Context(), src.begin); !errors.Is(err, ErrWAL) {
		t.Fatal(err)
	}
}

func TestBackupWALNeverComes(t *testing.T) {
	s := newBackups(t, stored.Zstd)
	src := s.source()
	src.end.EndLSN += walname.LSN(s.data.Geometry().SegmentSize)
	_, err := s.Run(t.Context(), src.begin)
	if !errors.Is(err, ErrWAL) || !strings.Contains(err.Error(), seg8) || len(s.left()) > 0 {
		t.Errorf("%v; left: %q", err, s.left())
	}

	// Nor does the archive's answer.
	src = s.source()
	s.store.Hook(func(step storetest.Step) storetest.Fault {
		if step.Op == "head" && strings.Contains(step.Name, seg7) {
			return storetest.Fault{Err: transport.ErrUnreachable}
		}
		return storetest.Fault{}
	})
	_, err = s.Run(t.Context(), src.begin)
	if errors.Is(err, ErrWAL) || !errors.Is(err, transport.ErrUnreachable) || len(s.left()) > 0 {
		t.Errorf("%v; left: %q", err, s.left())
	}
}

// A segment that is there by name alone does not count.
func TestBackupNeedsSoundWAL(t *testing.T) {
	for what, damage := range map[string]func(s *backups, name string, file []byte){
		"cut short": func(s *backups, name string, file []byte) { must(t, s.store.Plant(name, file[:len(file)-1])) },
		"empty":     func(s *backups, name string, _ []byte) { must(t, s.store.Plant(name, nil)) },
		"another's": func(s *backups, name string, _ []byte) {
			other, _ := s.store.Bytes(s.stem(seg6) + ".zst")
			must(t, s.store.Plant(name, other))
		},
	} {
		s := newBackups(t, stored.Zstd)
		name := s.stem(seg7) + ".zst"
		file, _ := s.store.Bytes(name)
		damage(s, name, file)
		_, err := s.Run(t.Context(), s.source().begin)
		if !errors.Is(err, stored.ErrDamaged) || !strings.Contains(err.Error(), seg7) || len(s.left()) > 0 {
			t.Errorf("%s: %v; left: %q", what, err, s.left())
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
