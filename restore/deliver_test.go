package restore

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"walship/internal/pgdata"
	"walship/internal/stored"
	"walship/transport"
)

// Whatever was archived is delivered, byte for byte, to whoever asks.
func TestDelivers(t *testing.T) {
	for version, names := range map[string][]string{
		"9.0":      {"000000010000000000000001", "000000010000000000000002.00000020.backup", fork2, "000000020000000000000004"},
		"9.4":      {"000000010000000000000002", fork2, "000000020000000000000005"},
		"15":       {"000000010000000000000003", fork2, "000000020000000000000005", "000000010000000000000005.partial"},
		"17_seg1":  {seg6, seg7, fork2, "00000002000000000000000A", "000000010000000000000008.00000028.backup"},
		"16_seg64": {"000000020000000000000005"},
	} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			for i, name := range names {
				s := newSite(t, version)
				content := fixture(t, version, name)
				for j, mode := range modes {
					codec := stored.Written()[(i+j)%len(stored.Written())]
					stow := s.archive(name, content, codec)
					s.delivered(s.fetch(name, mode), content)
					if err := s.store.Remove(t.Context(), stow); err != nil {
						t.Fatal(err)
					}
				}
				if len(s.warns) != 0 {
					t.Errorf("%s: warned %q", name, s.warns)
				}
			}
		})
	}
}

// A folder that cp, gzip, zstd, lz4 and the like have filled.
func TestDeliversFromFlatFolder(t *testing.T) {
	content := fixture(t, small, seg6)
	for ext, command := range map[string][]string{"": {"cat"}, ".gz": {"gzip", "-c"}, ".zst": {"zstd", "-qc"}, ".lz4": {"lz4", "-qc"}} {
		pack := func(content []byte) []byte {
			cmd := exec.Command(command[0], command[1:]...)
			cmd.Stdin = bytes.NewReader(content)
			file, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			return file
		}
		for _, mode := range modes {
			s := newSite(t, small)
			if err := s.store.Remove(t.Context(), s.cluster().IdentityFile()); err != nil {
				t.Fatal(err)
			}
			root := t.TempDir()
			s.Store = transport.NewLocal(root, transport.Full)
			write(t, filepath.Join(root, seg6+ext), pack(content))
			write(t, filepath.Join(root, fork2+ext), pack(fixture(t, small, fork2)))
			s.delivered(s.fetch(seg6, mode), content)
			s.delivered(s.fetch(fork2, mode), fixture(t, small, fork2))
			if err := s.fetch("00000001000000000000000B", mode); !errors.Is(err, ErrNotThere) {
				t.Errorf("%q, %s: absent: %v", ext, mode, err)
			}
			// Cut short it is not the file, with a data directory or without.
			file := pack(content)
			write(t, filepath.Join(root, seg6+ext), file[:len(file)-len(file)/3])
			write(t, s.path(), old)
			s.doubt(ext+" cut", s.fetch(seg6, mode), stored.ErrDamaged, seg6+ext)
			s.data = &pgdata.Dir{Path: s.data.Path, Version: s.data.Version}
			err := s.Fetch(t.Context(), Request{Name: seg6, Path: s.path(), Mode: pgdata.ByHand})
			s.doubt(ext+" cut, no data directory", err, stored.ErrDamaged, seg6+ext)
			write(t, filepath.Join(root, seg6+ext), pack(content))
			s.delivered(s.Fetch(t.Context(), Request{Name: seg6, Path: s.path(), Mode: pgdata.ByHand}), content)
		}
	}
}

// What cannot be put in its place is a local failure, and leaves nothing.
func TestCannotDeliver(t *testing.T) {
	s := newSite(t, small)
	s.archive(seg6, fixture(t, small, seg6), stored.Zstd)
	folder := filepath.Join(t.TempDir(), "folder")
	write(t, filepath.Join(folder, "file"), nil)
	for _, path := range []string{folder, filepath.Join(folder, "absent/RECOVERYXLOG"), filepath.Join(folder, "file/x")} {
		err := s.Fetch(t.Context(), Request{Name: seg6, Path: path, Data: s.data, Mode: pgdata.Standby})
		if !errors.Is(err, ErrLocal) || errors.Is(err, ErrNotThere) {
			t.Errorf("%s: %v", path, err)
		}
	}
	for _, dir := range []string{folder, filepath.Dir(folder)} {
		if left, _ := filepath.Glob(filepath.Join(dir, "*walship*")); len(left) != 0 {
			t.Errorf("left %q", left)
		}
	}
	if _, err := os.Stat(filepath.Join(folder, "file")); err != nil {
		t.Error(err)
	}
}

func TestNames(t *testing.T) {
	s := newSite(t, small)
	for _, name := range []string{"", "x", "../" + seg6, seg6 + ".zst", "00000001000000000000000a", "00000000.history", "walship.json"} {
		s.doubt(name, s.fetch(name, pgdata.ArchiveRecovery), ErrName, "")
	}
}

// What a killed fetch has left is cleared away; what a running one writes stays.
func TestSweepsLeftovers(t *testing.T) {
	s := newSite(t, small)
	s.archive(seg6, fixture(t, small, seg6), stored.Zstd)
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	gone := tempPrefix + strconv.Itoa(dead.Process.Pid) + ".00000000"
	stale := tempPrefix + strconv.Itoa(os.Getpid()) + ".00000001"
	running := tempPrefix + strconv.Itoa(os.Getpid()) + ".00000002"
	others := []string{"xlogtemp.12", "xlogtemp.walship.x", tempPrefix + "0.1", seg7}
	for _, name := range append(others, gone, stale, running) {
		write(t, filepath.Join(s.data.WALDir(), name), nil)
	}
	hours := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(filepath.Join(s.data.WALDir(), stale), hours, hours); err != nil {
		t.Fatal(err)
	}
	if err := s.fetch(seg6, pgdata.Standby); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{gone: false, stale: false, running: true, others[0]: true, others[1]: true, others[2]: true, others[3]: true} {
		if _, err := os.Stat(filepath.Join(s.data.WALDir(), name)); (err == nil) != want {
			t.Errorf("%s is there: %v", name, err == nil)
		}
	}
}
