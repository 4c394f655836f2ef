package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A state that another user of the machine could have written would tell verify
// that nothing need be read.
func TestStateOfOthers(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, mode := range []os.FileMode{0o600, 0o400, 0o644, 0o755} {
		if text, err := readOwn(file("own", mode)); err != nil || string(text) != "{}" {
			t.Errorf("mode %o: %q, %v", mode, text, err)
		}
	}
	refused := []string{file("group", 0o660), file("all", 0o602), filepath.Join(dir, "pipe"), dir}
	if err := syscall.Mkfifo(refused[2], 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 { // only root can make another's file
		foreign := file("foreign", 0o600)
		if err := os.Chown(foreign, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		link := filepath.Join(dir, "link")
		if err := os.Symlink(foreign, link); err != nil {
			t.Fatal(err)
		}
		refused = append(refused, foreign, link)
	}
	for _, path := range refused {
		if text, err := readOwn(path); !errors.Is(err, errNotOurs) {
			t.Errorf("%s: %q, %v", path, text, err)
		}
	}
	if _, err := readOwn(filepath.Join(dir, "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
