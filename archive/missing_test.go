package archive

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"walship/internal/layout"
	"walship/internal/stored"
	"walship/transport"
	"walship/transport/storetest"
)

// Push never makes an archive: it says why there is none.
func TestMissingArchive(t *testing.T) {
	id := dataDir(t, small).Control.SystemID
	c := layout.Cluster{SystemID: id}
	whole := layout.Identity{SystemID: id, SegmentSize: 1 << 20, Codec: "zstd"}
	foreign := layout.Identity{SystemID: 7, SegmentSize: 1 << 20, Codec: "zstd"}
	for _, x := range []struct {
		what       string
		files      map[string][]byte
		says, hint string
	}{
		{"no root", nil, "its folder does not exist", "mounted"},
		{"an empty root", map[string][]byte{}, "its folder is empty", "mounted"},
		{"another cluster", map[string][]byte{"7/walship.json": foreign.Marshal()}, "it holds cluster 7 and nothing of cluster " + c.Folder(), "pg_upgrade"},
		{"something else", map[string][]byte{"notes.txt": nil}, "it holds nothing of cluster " + c.Folder(), "walship init"},
		{"no identity", map[string][]byte{c.Folder() + "/wal/x": nil}, "walship.json is missing in it", "walship init puts the file back"},
		{"an empty identity", map[string][]byte{c.IdentityFile(): nil}, "not whole", ""},
		{"a torn identity", map[string][]byte{c.IdentityFile(): whole.Marshal()[:50]}, "not whole", ""},
		{"another's identity", map[string][]byte{c.IdentityFile(): foreign.Marshal()}, "it is that of cluster 7", ""},
	} {
		root, data := t.TempDir(), dataDir(t, small)
		for name, content := range x.files {
			write(t, filepath.Join(root, name), content)
		}
		if x.files == nil {
			if err := os.Remove(root); err != nil {
				t.Fatal(err)
			}
		}
		p := &Pusher{Store: transport.NewLocal(root, transport.Full), Codec: stored.Zstd, HeaderCheck: true, CloneGuard: true, Warn: func(text string) { t.Error(text) }}
		for _, name := range []string{seg6, fork2, "00000001000000000000000A.partial", "000000010000000000000008.00000028.backup"} {
			path := filepath.Join(data.WALDir(), name)
			write(t, path, fixture(t, small, name))
			err := p.Push(t.Context(), data, path, name)
			if !errors.Is(err, ErrArchive) || !strings.Contains(err.Error(), x.says) || !strings.Contains(transport.Hint(err), x.hint) {
				t.Errorf("%s, %s: %v, hint %q", x.what, name, err, transport.Hint(err))
			}
		}
		var left []string
		filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				rel, _ := filepath.Rel(root, path)
				left = append(left, rel)
			}
			return nil
		})
		if len(left) != len(x.files) {
			t.Errorf("%s: left %q", x.what, left)
		}
	}
}

// An archive that cannot be asked is not a missing one.
func TestArchiveFails(t *testing.T) {
	s := newSite(t, small, stored.Zstd)
	fails := errors.New("the line is dead")
	s.store.Hook(func(storetest.Step) storetest.Fault { return storetest.Fault{Err: fails} })
	if err := s.push(seg6, fixture(t, small, seg6)); !errors.Is(err, fails) || errors.Is(err, ErrArchive) {
		t.Errorf("got %v", err)
	}
}

func TestInit(t *testing.T) {
	root, data := filepath.Join(t.TempDir(), "a/b"), dataDir(t, small)
	store := transport.NewLocal(root, transport.Full)
	id, existed, err := Init(t.Context(), store, data, stored.Gzip, nil)
	if err != nil || existed || id.SystemID != data.Control.SystemID || id.SegmentSize != 1<<20 || id.Codec != "gzip" {
		t.Fatalf("%+v, %v, %v", id, existed, err)
	}
	for _, folder := range (layout.Cluster{SystemID: id.SystemID}).Folders() {
		if info, err := os.Stat(filepath.Join(root, folder)); err != nil || !info.IsDir() {
			t.Errorf("%s: %v", folder, err)
		}
	}
	// Again, with another codec: the archive's own holds.
	again, existed, err := Init(t.Context(), store, data, stored.Zstd, nil)
	if err != nil || !existed || again.Codec != "gzip" {
		t.Errorf("%+v, %v, %v", again, existed, err)
	}
	// A second cluster beside it.
	if _, existed, err := Init(t.Context(), store, dataDir(t, "15"), stored.Zstd, nil); err != nil || existed {
		t.Errorf("%v, %v", existed, err)
	}
	data.Control.SegmentSize = 16 << 20
	if _, _, err := Init(t.Context(), store, data, stored.Gzip, nil); !errors.Is(err, ErrArchive) || !strings.Contains(err.Error(), "1048576") {
		t.Errorf("another segment size: %v", err)
	}
	// A broken identity is for a person to look at.
	file := filepath.Join(root, layout.Cluster{SystemID: id.SystemID}.IdentityFile())
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Init(t.Context(), store, data, stored.Gzip, nil); !errors.Is(err, layout.ErrIdentity) {
		t.Errorf("an empty identity: %v", err)
	}
	if b, err := os.ReadFile(file); err != nil || len(b) != 0 {
		t.Errorf("it was replaced: %q, %v", b, err)
	}
}

// Whatever step of init fails, nil means that the identity is there, and the
// next init succeeds.
func TestInitFaults(t *testing.T) {
	fails := errors.New("fault")
	for _, applied := range []bool{false, true} {
		for n := 0; ; n++ {
			data, store := dataDir(t, small), storetest.NewMemory()
			reached := store.Fail(n, storetest.Fault{Err: fails, Applied: applied})
			_, _, err := Init(context.Background(), memory{store}, data, stored.Zstd, nil)
			if err == nil && !slices.Contains(store.Names(), layout.Cluster{SystemID: data.Control.SystemID}.IdentityFile()) {
				t.Errorf("step %d: nil, and there is no identity", n)
			}
			if !reached() {
				if err != nil || n < 8 {
					t.Errorf("%d steps, %v", n, err)
				}
				break
			}
			store.Hook(nil)
			if id, _, err := Init(context.Background(), memory{store}, data, stored.Zstd, nil); err != nil || id.Codec != "zstd" {
				t.Errorf("step %d, applied %v: retry: %v", n, applied, err)
			}
		}
	}
}

// Two at once make one archive.
func TestInitTwice(t *testing.T) {
	data, store := dataDir(t, small), storetest.NewMemory()
	store.Hook(func(step storetest.Step) storetest.Fault {
		if step.Op == "put.publish" {
			theirs := layout.Identity{SystemID: data.Control.SystemID, SegmentSize: 1 << 20, Codec: "gzip"}
			if err := store.Plant(step.Name, theirs.Marshal()); err != nil {
				t.Error(err)
			}
		}
		return storetest.Fault{}
	})
	id, existed, err := Init(t.Context(), memory{store}, data, stored.Zstd, nil)
	if err != nil || !existed || id.Codec != "gzip" {
		t.Errorf("%+v, %v, %v", id, existed, err)
	}
}
