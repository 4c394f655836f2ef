package transport_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"walship/transport"
	"walship/transport/storetest"
)

// localStore is a Local that a test can reach behind.
type localStore struct {
	*transport.Local
	root string
}

func (s localStore) Age(name string, d time.Duration) error {
	then := time.Now().Add(-d)
	return os.Chtimes(filepath.Join(s.root, name), then, then)
}

func (s localStore) Plant(name string, data []byte) error {
	return os.WriteFile(filepath.Join(s.root, name), data, 0o600)
}

func openLocal(t *testing.T) storetest.Store {
	root := t.TempDir()
	return localStore{transport.NewLocal(root, transport.Full), root}
}

func TestLocal(t *testing.T) { storetest.Run(t, openLocal) }

const (
	localCluster = "7710000000000000001"
	localFolder  = localCluster + "/wal/0000000100000000"
	localName    = localFolder + "/000000010000000000000007.zst"
)

// newLocal returns a store with its root, in which localFolder and the folder
// for temporary files exist.
func newLocal(t *testing.T) localStore {
	t.Helper()
	s := openLocal(t).(localStore)
	for _, dir := range []string{localFolder, localCluster + "/tmp"} {
		if err := s.Mkdir(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func localSource(content string) transport.Source {
	return transport.Source{Write: func(w io.WriterAt) error {
		_, err := w.WriteAt([]byte(content), 0)
		return err
	}}
}

// everyCall calls each method on a store, with name where one is asked for.
func everyCall(ctx context.Context, s storetest.Store, name string) map[string]error {
	errs := map[string]error{
		"put":   s.Put(ctx, name, localSource("x")),
		"list":  s.List(ctx, name, func(transport.FileInfo) error { return nil }),
		"mkdir": s.Mkdir(ctx, name),
		"move":  s.Move(ctx, name, name+"2"),
		"sync":  s.Sync(ctx, name),
	}
	_, errs["open"] = s.Open(ctx, name)
	_, errs["head"] = s.Head(ctx, name, 1)
	_, errs["sweep"] = s.Sweep(ctx, name, time.Hour)
	errs["remove"] = s.Remove(ctx, name) // last
	return errs
}

func TestLocalRootMissing(t *testing.T) {
	above := t.TempDir()
	root := filepath.Join(above, "mnt", "archive")
	s := transport.NewLocal(root, transport.Full)
	for op, err := range everyCall(t.Context(), s, localName) {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v, want an error that is %q", op, err, fs.ErrNotExist)
		} else if !strings.Contains(err.Error(), root) {
			t.Errorf("%s: %q does not name %s", op, err, root)
		}
	}
	if left, _ := os.ReadDir(above); len(left) != 0 {
		t.Fatalf("made %v", left)
	}

	for range 2 { // the second time it exists
		if err := s.MkdirRoot(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Put(t.Context(), "file", localSource("x")); err != nil {
		t.Fatal(err)
	}

	file := transport.NewLocal(filepath.Join(root, "file"), transport.Full)
	if err := file.MkdirRoot(t.Context()); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a file as root: %v", err)
	}
	for op, err := range everyCall(t.Context(), file, localName) {
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s with a file as root: %v", op, err)
		}
	}
}

func TestLocalSymlinks(t *testing.T) {
	s := newLocal(t)
	outside := t.TempDir()
	for link, target := range map[string]string{"absolute": outside, "relative": "../" + filepath.Base(outside), "inside": localCluster} {
		if err := os.Symlink(target, filepath.Join(s.root, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(outside, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"absolute/file", "relative/file", "absolute/new/file", "absolute", "relative"} {
		for op, err := range everyCall(t.Context(), s, name) {
			removed := op == "remove" && !strings.Contains(name, "/") // the link itself
			if err == nil && !removed {
				t.Errorf("%s %s went out of the root", op, name)
			}
			if errors.Is(err, fs.ErrNotExist) && op == "put" {
				t.Errorf("put %s: %v", name, err)
			}
		}
		os.Symlink(outside, filepath.Join(s.root, "absolute"))
		os.Symlink("../"+filepath.Base(outside), filepath.Join(s.root, "relative"))
	}
	if entries, _ := os.ReadDir(outside); len(entries) != 1 || entries[0].Name() != "file" {
		t.Fatalf("outside there is now %v", entries)
	}

	// A link within the root is followed, and the root may be one.
	if err := os.Symlink(s.root, filepath.Join(outside, "root")); err != nil {
		t.Fatal(err)
	}
	linked := transport.NewLocal(filepath.Join(outside, "root"), transport.Full)
	if err := linked.Put(t.Context(), "inside/file", localSource("x")); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(s.root, localCluster, "file")); string(got) != "x" {
		t.Fatalf("got %q, %v", got, err)
	}
}

// A named pipe under a file's name does not make anybody wait.
func TestLocalNamedPipe(t *testing.T) {
	s := newLocal(t)
	if err := syscall.Mkfifo(filepath.Join(s.root, localName), 0o600); err != nil {
		t.Fatal(err)
	}
	for op, err := range everyCall(t.Context(), s, localName) {
		if op == "remove" {
			continue
		}
		if err == nil || errors.Is(err, fs.ErrNotExist) || op == "put" && errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: got %v", op, err)
		}
	}
}

// A write that failed fails Put even if the source keeps it to itself.
func TestLocalSwallowedWriteError(t *testing.T) {
	s := newLocal(t)
	err := s.Put(t.Context(), localName, transport.Source{Write: func(w io.WriterAt) error {
		w.WriteAt([]byte("x"), -1)
		return nil
	}})
	if err == nil {
		t.Fatal("stored")
	}
	if _, err := s.Open(t.Context(), localName); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("after %v there is a file: %v", err, err)
	}
}

// What is cancelled while it is written is not synced, nor is Confirm asked.
func TestLocalCancelledWhileWriting(t *testing.T) {
	s := newLocal(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := s.Put(ctx, localName, transport.Source{
		Write:   func(io.WriterAt) error { cancel(); return nil },
		Confirm: func() error { t.Error("asked"); return nil },
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// A reader's context ends its reads.
func TestLocalReadContext(t *testing.T) {
	s := newLocal(t)
	if err := s.Put(t.Context(), localName, localSource("content")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	f, err := s.Open(ctx, localName)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cancel()
	if _, err := f.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Fatalf("read after the end of its context: %v", err)
	}
}

// What is stored is not for everybody.
func TestLocalPermissions(t *testing.T) {
	s := openLocal(t).(localStore)
	if err := s.Mkdir(t.Context(), localCluster); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), localName, localSource("x")); err != nil {
		t.Fatal(err)
	}
	for name, beyond := range map[string]fs.FileMode{localName: 0o137, localFolder: 0o027, localCluster: 0o027} {
		info, err := os.Stat(filepath.Join(s.root, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&beyond != 0 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
}
