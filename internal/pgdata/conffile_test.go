package pgdata

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// splitCluster makes a data directory of that version, and its configuration
// apart from it, as Debian has it.
func splitCluster(t *testing.T, base, version, name string) (d *Dir, conf string) {
	t.Helper()
	data := filepath.Join(base, "lib", version, name)
	folder := filepath.Join(base, "etc", version, name)
	for _, dir := range []string{filepath.Join(data, "global"), folder} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	control, err := os.ReadFile(filepath.Join("testdata", "pg_control", version))
	if err != nil {
		t.Fatal(err)
	}
	conf = filepath.Join(folder, "postgresql.conf")
	for path, text := range map[string]string{
		filepath.Join(data, "PG_VERSION"):           version + "\n",
		filepath.Join(data, "global", "pg_control"): string(control),
		conf: fmt.Sprintf("data_directory = '%s'\narchive_command = '%s of %s'\n", data, name, version),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if d, err = Open(data); err != nil {
		t.Fatal(err)
	}
	return d, conf
}

// Two clusters of two versions, and two of one: each finds its own configuration.
func TestConfigFileDebian(t *testing.T) {
	base := t.TempDir()
	etc := filepath.Join(base, "etc")
	for _, c := range []struct{ version, name string }{{"9.4", "main"}, {"15", "main"}, {"15", "second"}} {
		d, conf := splitCluster(t, base, c.version, c.name)
		got, err := d.ConfigFile(etc)
		if err != nil || got != conf {
			t.Errorf("%v: %s %v, want %s", c, got, err, conf)
		}
		settings, err := d.SettingsFrom(got)
		if set, _ := Lookup(settings, "archive_command"); err != nil || set.Value != c.name+" of "+c.version {
			t.Errorf("%v: %v %v", c, set, err)
		}
		if found, ok := d.DebianCluster(etc); !ok || found.Version != c.version || found.Name != c.name {
			t.Errorf("%v: %v %v", c, found, ok)
		}
	}
	if all := DebianClusters(etc); len(all) != 3 {
		t.Errorf("%v", all)
	}
	// One that leads elsewhere, or nowhere, is nobody's.
	d, conf := splitCluster(t, base, "15", "third")
	for _, text := range []string{"data_directory = '/nowhere'\n", "port = 1\n", "syntax = = error\n"} {
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := d.ConfigFile(etc); err != nil || got != filepath.Join(d.Path, "postgresql.conf") {
			t.Errorf("%q: %s %v", text, got, err)
		}
	}
	// What the server was started with says more than where it is installed.
	opts := fmt.Sprintf("/usr/lib/postgresql/15/bin/postgres \"-D\" \"%s\" \"-c\" \"config_file=/elsewhere/postgresql.conf\"\n", d.Path)
	if err := os.WriteFile(filepath.Join(d.Path, "postmaster.opts"), []byte(opts), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := d.ConfigFile(etc); err != nil || got != "/elsewhere/postgresql.conf" {
		t.Errorf("%s %v", got, err)
	}
}

func TestPostmaster(t *testing.T) {
	d, _ := splitCluster(t, t.TempDir(), "15", "main")
	if _, err := d.Postmaster(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
	for text, want := range map[string]Postmaster{
		"4711\n/data\n1790000000\n5433\n/var/run/postgresql\nlocalhost\n  5433001   0\nready\n": {4711, "5433", "/var/run/postgresql", "localhost"},
		"4711\n/data\n1790000000\n5433\n\n*\n":                                                  {4711, "5433", "", "*"},
		"4711\n/data\n  5432001    65536\n":                                                     {PID: 4711}, // 9.0
	} {
		if err := os.WriteFile(filepath.Join(d.Path, "postmaster.pid"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := d.Postmaster(); err != nil || got != want {
			t.Errorf("%q: %+v %v", text, got, err)
		}
	}
	if err := os.WriteFile(filepath.Join(d.Path, "postmaster.pid"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Postmaster(); err == nil {
		t.Error("an empty file is taken")
	}
}
