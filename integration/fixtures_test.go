package integration_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// Every file in testdata/wal was written by a server of the version that its
// folder is named after, by servers with segments of 1 MB and 64 MB in 17_seg1
// and 16_seg64. Each goes into an archive, one of them twice, and comes back as it
// was.
func TestFilesOfEveryVersion(t *testing.T) {
	s := newSite(t)
	versions, err := filepath.Glob("testdata/wal/*")
	must(t, err)
	if len(versions) != 18 {
		t.Errorf("%d versions: %q", len(versions), versions)
	}
	t.Run("all", func(t *testing.T) { // the host lives until the last one has ended
		for _, from := range versions {
			t.Run(filepath.Base(from), func(t *testing.T) {
				t.Parallel()
				pushAndFetch(t, s, from)
			})
		}
	})
}

func pushAndFetch(t *testing.T, s *site, from string) {
	data, files := unpack(t, from)
	push := func(data, path, name string) {
		t.Helper()
		r := run(t, data, nil, s.binary, "--config", s.config(), "push", path, name)
		if r.code != 0 {
			t.Errorf("push %s: %v", name, r)
		}
	}
	if r := run(t, data, nil, s.binary, "--config", s.config(), "init"); r.code != 0 {
		t.Fatal(r)
	}
	want := map[string][]byte{}
	var last string
	for name, content := range files {
		if filepath.Ext(name) != ".other-node" {
			push(data, filepath.Join(walFolder(data), name), name)
			want[name], last = content, name
		}
	}
	push(data, filepath.Join(walFolder(data), last), last)
	// Before 9.5 a promoted server archives the unfinished segment of the old
	// timeline under its full name, which belongs to the old primary's.
	for name, content := range files {
		if name, ok := strings.CutSuffix(name, ".other-node"); ok {
			old := dataFolder(t, from)
			path := filepath.Join(walFolder(old), name)
			must(t, os.WriteFile(path, content, 0o600))
			push(old, path, name)
			want[name+".partial"] = want[name]
			want[name] = content
		}
	}
	out := t.TempDir()
	for name, content := range want {
		path := filepath.Join(out, name)
		if r := run(t, data, nil, s.binary, "--config", s.config(), "fetch", name, path); r.code != 0 || r.stderr != "" {
			t.Errorf("fetch %s: %v", name, r)
			continue
		}
		got, err := os.ReadFile(path)
		must(t, err)
		if !bytes.Equal(got, content) {
			t.Errorf("%s came back with other bytes", name)
		}
	}
}

// unpack makes a data directory of a folder of testdata/wal, and returns what
// its WAL folder holds by name.
func unpack(t testing.TB, from string) (data string, files map[string][]byte) {
	t.Helper()
	data = dataFolder(t, from)
	packed, err := filepath.Glob(filepath.Join(from, "*.zst"))
	must(t, err)
	files = map[string][]byte{}
	for _, path := range packed {
		name := strings.TrimSuffix(filepath.Base(path), ".zst")
		files[name] = unzstd(t, path)
		must(t, os.WriteFile(filepath.Join(walFolder(data), name), files[name], 0o600))
	}
	return data, files
}

// dataFolder makes a data directory with an empty WAL folder: as much of one as
// tells walship which cluster and version it is.
func dataFolder(t testing.TB, from string) string {
	t.Helper()
	data := t.TempDir()
	version, err := os.ReadFile(filepath.Join(from, "PG_VERSION"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(data, "PG_VERSION"), version, 0o600))
	must(t, os.Mkdir(filepath.Join(data, "global"), 0o700))
	control := unzstd(t, filepath.Join(from, "global", "pg_control.zst"))
	must(t, os.WriteFile(filepath.Join(data, "global", "pg_control"), control, 0o600))
	must(t, os.Mkdir(walFolder(data), 0o700))
	return data
}

// walFolder is pg_xlog before version 10.
func walFolder(data string) string {
	version, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if err == nil && bytes.HasPrefix(version, []byte("9.")) {
		return filepath.Join(data, "pg_xlog")
	}
	return filepath.Join(data, "pg_wal")
}

func unzstd(t testing.TB, path string) []byte {
	t.Helper()
	packed, err := os.ReadFile(path)
	must(t, err)
	d, err := zstd.NewReader(nil)
	must(t, err)
	defer d.Close()
	content, err := d.DecodeAll(packed, nil)
	must(t, err)
	return content
}
