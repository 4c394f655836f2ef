package config

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// asOther runs f as a user who owns nothing: root may read everything, so root
// lends its thread another file system identity, and the thread ends with it.
func asOther(t *testing.T, f func()) {
	if os.Geteuid() != 0 {
		f()
		return
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		err := syscall.Setfsuid(65534)
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// A default file that is there but closed to us is not passed over.
func TestPermission(t *testing.T) {
	w := newWorld(t)
	write(t, w.global(), "archive = 'file:///a'")
	write(t, w.user(), "archive = 'file:///b'")
	for dir := filepath.Dir(w.home); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const denied = ": permission denied"
	for _, closed := range []string{w.user(), filepath.Join(w.home, ".config")} {
		mode := os.FileMode(0o755)
		if err := os.Chmod(closed, 0); err != nil {
			t.Fatal(err)
		}
		asOther(t, func() {
			c, err := Load(w.sources(nil, nil))
			wantError(t, c, err, "cannot read "+w.user()+" (searched by default, --config names another)"+denied)
			c, err = Load(w.sources(nil, map[string]string{"config": w.user()}))
			wantError(t, c, err, "cannot read "+w.user()+" (flag --config)"+denied)
			if c, err := Load(w.sources(nil, map[string]string{"config": w.global()})); err != nil || c.Archive != "file:///a" {
				t.Errorf("%+v, %v", c, err)
			}
		})
		if err := os.Chmod(closed, mode); err != nil {
			t.Fatal(err)
		}
	}
}

// A file that every user of the machine may write to says nothing, wherever it
// was found; one that a group may write to is the administrator's business.
func TestWritableByAll(t *testing.T) {
	w := newWorld(t)
	write(t, w.user(), "archive = 'file:///b'")
	for mode, refused := range map[os.FileMode]bool{0o600: false, 0o644: false, 0o664: false, 0o666: true, 0o602: true, 0o777: true} {
		if err := os.Chmod(w.user(), mode); err != nil {
			t.Fatal(err)
		}
		for _, flags := range []map[string]string{nil, {"config": w.user()}} {
			c, err := Load(w.sources(nil, flags))
			if refused && (c != nil || err == nil || !strings.Contains(err.Error(), "every user of this machine may write to it") || !strings.Contains(err.Error(), w.user())) {
				t.Errorf("mode %o: %+v, %v", mode, c, err)
			}
			if !refused && (err != nil || c.Archive != "file:///b") {
				t.Errorf("mode %o: %+v, %v", mode, c, err)
			}
		}
	}
	// A device is not: /dev/null means no file.
	if _, err := Load(w.sources(nil, map[string]string{"config": os.DevNull})); err != nil {
		t.Error(err)
	}
}
