package pgdata

import (
	"os"
	"path/filepath"
	"testing"
)

func TestStartFolder(t *testing.T) {
	d := &Dir{Path: filepath.Join(t.TempDir(), "a b", "data")}
	if err := os.MkdirAll(d.Path, 0o700); err != nil {
		t.Fatal(err)
	}
	for given, want := range map[string]string{
		"/x/y": "/", "": "/", "data": filepath.Dir(d.Path), "./data": filepath.Dir(d.Path), ".": d.Path,
		"a b/data": filepath.Dir(filepath.Dir(d.Path)), "../data": "", "other": "",
	} {
		line := `/usr/lib/postgresql/15/bin/postgres "-c" "port=5433"`
		if given != "" {
			line = `/usr/lib/postgresql/15/bin/postgres "-D" "` + given + `" "-c" "port=5433"`
		}
		if err := os.WriteFile(filepath.Join(d.Path, "postmaster.opts"), []byte(line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		got, ok := d.StartFolder()
		if ok != (want != "") || ok && got != want {
			t.Errorf("-D %s: %q, %v, want %q", given, got, ok, want)
		}
	}
}
