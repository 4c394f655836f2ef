package restore

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"testing"

	"walship/internal/basebackup"
)

// Whatever a part holds: what is written lies in the folder, is named by the
// list, and is what the list vouches for if no error says otherwise.
func FuzzUnpack(f *testing.F) {
	content := "a page of a table\n"
	sum := basebackup.Sum(sha256.Sum256([]byte(content)))
	files := []basebackup.File{
		{Path: "base", Type: basebackup.Dir, Mode: 0o700},
		{Path: "base/1259", Size: int64(len(content)), Mode: 0o600, SHA256: &sum},
		{Path: "base/link", Type: basebackup.Link, Link: "1259", Mode: 0o777},
	}
	var good bytes.Buffer
	w := tar.NewWriter(&good)
	for _, e := range files {
		h := &tar.Header{Name: e.Path, Mode: int64(e.Mode), Typeflag: typeflag(e.Type), Linkname: e.Link, Size: e.Size}
		if err := w.WriteHeader(h); err != nil {
			f.Fatal(err)
		}
		if e.Type == basebackup.Regular {
			if _, err := w.Write([]byte(content)); err != nil {
				f.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(good.Bytes())
	f.Add(bytes.ReplaceAll(good.Bytes(), []byte("base/link"), []byte("../../lin")))
	f.Add(good.Bytes()[:1024])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, part []byte) {
		above := t.TempDir()
		in, err := openTree(filepath.Join(above, "new"), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		u := &unpacking{Restorer: &Restorer{}, target: target{tree: in, main: true}, buf: make([]byte, 512)}
		err = u.all(t.Context(), basebackup.Part{Files: files}, bytes.NewReader(part))
		for name := range treeOf(t, above) {
			switch name {
			case ".", "new", "new/base", "new/base/1259", "new/base/link":
			default:
				t.Errorf("it made %s", name)
			}
		}
		if err != nil {
			return
		}
		got, err := os.ReadFile(filepath.Join(in.Name(), "base", "1259"))
		if err != nil || string(got) != content {
			t.Errorf("%q, %v", got, err)
		}
	})
}
