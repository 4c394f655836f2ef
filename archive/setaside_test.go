package archive

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"walship/internal/stored"
	"walship/transport"
	"walship/transport/storetest"
)

// What push refuses can be set aside, and then exactly that content passes.
func TestSetAside(t *testing.T) {
	content := fixture(t, small, seg6)
	for _, codec := range stored.Written() {
		for _, c := range []struct {
			what, name string
			content    []byte
			class      error
		}{
			{"a conflict", seg6, changed(content), ErrConflict},
			{"a wrong size", seg7, content[:1000], ErrRefused},
			{"a wrong header", seg7, content, ErrRefused},
			{"a broken history", fork2, []byte("nothing"), ErrRefused},
		} {
			s := newSite(t, small, codec)
			s.mustPush(seg6, content)
			if err := s.push(c.name, c.content); !errors.Is(err, c.class) || !strings.Contains(transport.Hint(err), "set-aside "+c.name) && c.what != "a wrong header" {
				t.Fatalf("%s: %v, hint %q", c.what, err, transport.Hint(err))
			}
			path := filepath.Join(s.data.WALDir(), c.name)
			for range 2 { // once more does no harm
				stow, err := s.SetAside(t.Context(), s.data, path, c.name)
				want := s.cluster().Refused() + fmt.Sprintf("/%s.%x", c.name, short(c.content)) + codec.Extension()
				if err != nil || stow != want {
					t.Fatalf("%s, %s: %q, %v, want %q", c.what, codec, stow, err, want)
				}
				s.holds(strings.TrimSuffix(stow, codec.Extension()), c.content)
			}
			s.warned()
			if err := s.push(c.name, c.content); err != nil {
				t.Errorf("%s, %s: %v", c.what, codec, err)
			}
			if w := s.warned(); !strings.Contains(w, "set aside") {
				t.Errorf("%s: warned %q", c.what, w)
			}
			if err := s.push(c.name, changed(c.content)); !errors.Is(err, c.class) {
				t.Errorf("%s: other content passes too: %v", c.what, err)
			}
			s.holds(s.stem(seg6), content)
			if _, there := s.content(s.stem(c.name)); there && c.name != seg6 {
				t.Errorf("%s: it got its name", c.what)
			}
		}
	}
}

// It lets pass only what is kept whole, on stable storage.
func TestSetAsideIsChecked(t *testing.T) {
	s := newSite(t, small, stored.Zstd)
	content := fixture(t, small, seg6)
	s.mustPush(seg6, content)
	other := changed(content)
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, other)
	stow, err := s.SetAside(t.Context(), s.data, path, seg6)
	if err != nil {
		t.Fatal(err)
	}
	s.store.Hook(func(step storetest.Step) storetest.Fault {
		if step.Op == "sync" && step.Name == stow {
			return storetest.Fault{Err: errors.New("cannot sync")}
		}
		return storetest.Fault{}
	})
	if err := s.push(seg6, other); !errors.Is(err, ErrConflict) {
		t.Errorf("not synced: %v", err)
	}
	s.store.Hook(nil)
	s.mustPush(seg6, other)
	file, _ := s.store.Bytes(stow)
	if err := s.store.Plant(stow, file[:len(file)-1]); err != nil {
		t.Fatal(err)
	}
	if err := s.push(seg6, other); !errors.Is(err, ErrConflict) {
		t.Errorf("damaged: %v", err)
	}
}

// Without an archive nothing is set aside.
func TestSetAsideWithoutArchive(t *testing.T) {
	s := newSite(t, small, stored.Zstd)
	if err := s.store.Remove(t.Context(), s.cluster().IdentityFile()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, []byte("x"))
	if _, err := s.SetAside(t.Context(), s.data, path, seg6); !errors.Is(err, ErrArchive) {
		t.Errorf("got %v", err)
	}
}
