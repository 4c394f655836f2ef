package pgdata

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walship/walname"
)

// dataDir makes a folder that looks like the data directory of that version.
func dataDir(t testing.TB, version string, files map[string]string) string {
	t.Helper()
	all := map[string]string{"PG_VERSION": version + "\n"}
	control := "15"
	for _, c := range realControls {
		if c.file == version {
			control = version
		}
	}
	all["global/pg_control"] = string(controlData(t, control))
	for name, text := range files {
		all[name] = text
	}
	return write(t, all)
}

func TestVersion(t *testing.T) {
	for s, want := range map[string]Version{
		"9.0\n": 90000, "9.6": 90600, "10\n": 100000, "15\r\n": 150000, "18": 180000, "19\n": 190000, "8.4": 80400,
	} {
		got, err := ParseVersion(s)
		if err != nil || got != want || got.String() != strings.TrimSpace(s) {
			t.Errorf("ParseVersion(%q) = %d %s, %v", s, got, got, err)
		}
	}
	for _, s := range []string{"", "9", "10.1", "9.", ".6", "9.6.5", "x", "-9.6", "+15", "1e5", "100", "9.100", "15 16", "１５"} {
		if got, err := ParseVersion(s); err == nil {
			t.Errorf("ParseVersion(%q) = %d", s, got)
		}
	}
}

func TestOpen(t *testing.T) {
	for _, c := range realControls {
		dir := write(t, map[string]string{
			"PG_VERSION": c.version.String() + "\n", "global/pg_control": string(controlData(t, c.file)),
		})
		d, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		wal := "pg_wal"
		if c.version < 100000 {
			wal = "pg_xlog"
		}
		want := walname.Geometry{SegmentSize: c.size, SkipFF: strings.Contains("9.0 9.1 9.2", c.file)}
		if d.Path != dir || d.Version != c.version || d.Control.SystemID != c.systemID ||
			d.Geometry() != want || d.WALDir() != filepath.Join(dir, wal) {
			t.Errorf("%s: %+v, %+v, %s", c.file, d, d.Geometry(), d.WALDir())
		}
	}
	t.Chdir(dataDir(t, "15", nil))
	here, _ := os.Getwd()
	if d, err := Open("."); err != nil || d.Path != here {
		t.Errorf("Open(.) = %+v, %v", d, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	good := string(controlData(t, "15"))
	for _, c := range []struct {
		files map[string]string
		is    error
		want  string
	}{
		{nil, ErrNotDataDir, "PG_VERSION"},
		{map[string]string{"PG_VERSION": "15\n"}, ErrNotDataDir, "global/pg_control"},
		{map[string]string{"global/pg_control": good}, ErrNotDataDir, "PG_VERSION"},
		{map[string]string{"PG_VERSION": "x\n", "global/pg_control": good}, nil, "major version"},
		{map[string]string{"PG_VERSION": "15\n", "global/pg_control": good[:100]}, nil, "too few"},
		{map[string]string{"PG_VERSION": "15\n", "global/pg_control": good[:20] + "X" + good[21:]}, ErrCRC, "CRC"},
	} {
		dir := write(t, c.files)
		d, err := Open(dir)
		if d != nil || err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) ||
			c.is != nil && !errors.Is(err, c.is) || c.is == nil && errors.Is(err, ErrNotDataDir) {
			t.Errorf("%v: %+v, %v", c.want, d, err)
		}
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, ErrNotDataDir) {
		t.Error(err)
	}
}

// A pg_control that is whole a moment later is waited for, and no other error.
func TestPatiently(t *testing.T) {
	for _, c := range []struct {
		bad   int   // readings that fail
		err   error // how
		calls int
		good  bool
	}{
		{0, nil, 1, true},
		{3, ErrCRC, 4, true},
		{5, ErrCRC, 6, true},
		{6, ErrCRC, 6, false},
		{1, ErrNotDataDir, 1, false},
	} {
		calls := 0
		got, err := patiently(func() (Control, error) {
			if calls++; calls <= c.bad {
				return Control{}, c.err
			}
			return Control{SystemID: 1}, nil
		})
		if calls != c.calls || c.good != (got.SystemID == 1) || c.good != (err == nil) || !c.good && !errors.Is(err, c.err) {
			t.Errorf("%+v: %+v, %v after %d calls", c, got, err, calls)
		}
	}
}

func TestHistories(t *testing.T) {
	d, err := Open(dataDir(t, "15", map[string]string{
		"pg_wal/00000003.history":         "1\t0/5000000\tno recovery target specified\n\n2\t0/7000000\tx\n",
		"pg_wal/00000002.history":         "1\t0/5000000\tno recovery target specified\n",
		"pg_wal/RECOVERYHISTORY":          "broken",
		"pg_wal/x.history":                "broken",
		"pg_wal/000000010000000000000001": "",
	}))
	if err != nil {
		t.Fatal(err)
	}
	all, err := d.Histories()
	if err != nil || len(all) != 2 || all[0].Timeline != 2 || all[1].Timeline != 3 || len(all[1].Ancestors) != 2 ||
		all[0].Ancestors[0].Switch != 0x5000000 {
		t.Errorf("%+v, %v", all, err)
	}

	bad := filepath.Join(d.WALDir(), "00000004.history")
	if err := os.WriteFile(bad, []byte("what\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if all, err := d.Histories(); err == nil || !strings.Contains(err.Error(), bad) || len(all) != 2 {
		t.Errorf("with a broken file: %+v, %v", all, err)
	}

	if d, err = Open(dataDir(t, "9.6", nil)); err != nil {
		t.Fatal(err)
	}
	if all, err := d.Histories(); err != nil || len(all) != 0 {
		t.Errorf("without a folder: %+v, %v", all, err)
	}
	if err := os.WriteFile(d.WALDir(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Histories(); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file instead of the folder: %v", err)
	}
}

// A file as a server of 15 writes it; an older one has no eighth line.
func TestStopping(t *testing.T) {
	const running = "4711\n/data\n1700000000\n5432\n/tmp\nlocalhost\n  1234567     65537\nready   \n"
	for text, want := range map[string]bool{
		running: false,
		strings.Replace(running, "ready   ", "stopping", 1):  true,
		strings.Join(strings.Split(running, "\n")[:7], "\n"): false,
		"": false,
		strings.Replace(running, "/data", "stopping", 1): false,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "postmaster.pid"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := (&Dir{Path: dir}).Stopping(); got != want {
			t.Errorf("%q: %t", text, got)
		}
	}
	if (&Dir{Path: t.TempDir()}).Stopping() {
		t.Error("stopping without a server")
	}
}

func TestFromWALPath(t *testing.T) {
	data := dataDir(t, "15", nil)
	other := write(t, map[string]string{"pg_wal/x": "", "PG_VERSION": "15"})
	unversioned := write(t, map[string]string{"global/pg_control": ""})
	for path, want := range map[string]string{
		unversioned + "/pg_wal/x":                  "",
		data + "/pg_wal/000000010000000000000001":  data,
		data + "/pg_xlog/RECOVERYXLOG":             data,
		data + "//pg_wal/./x":                      data,
		data + "/pg_wal/archive_status/x":          "",
		data + "/x":                                "",
		data + "/pg_wal":                           "",
		other + "/pg_wal/000000010000000000000001": "",
		"/pg_wal/x":                                "",
		"x":                                        "",
		"":                                         "",
	} {
		if dir, ok := FromWALPath(path); ok != (want != "") || ok && dir != want {
			t.Errorf("FromWALPath(%q) = %q, %v", path, dir, ok)
		}
	}
	t.Chdir(data)
	if dir, ok := FromWALPath("pg_wal/RECOVERYXLOG"); !ok || dir != "." {
		t.Errorf("relative: %q, %v", dir, ok)
	}
}
