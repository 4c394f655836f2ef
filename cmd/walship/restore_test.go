package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"walship/internal/config"
	"walship/restore"
)

func TestParseMapping(t *testing.T) {
	for text, want := range map[string]restore.Mapping{
		"/a=/b":               {Old: "/a", New: "/b"},
		"/a/=/b//c/":          {Old: "/a", New: "/b/c"},
		`/a\=1=/b\=2,with it`: {Old: "/a=1", New: "/b=2,with it"},
	} {
		if got, err := parseMapping(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "/a", "=", "/a=", "=/b", "a=/b", "/a=b", "/a=/b=/c", `/a=/b\c`, "/a=/b\nc"} {
		if got, err := parseMapping(text); err == nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

// What restore_command says is what sh and PostgreSQL make of it: the words of
// this call, in absolute paths.
func TestRestoreCommandLine(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "it's 100% odd $HOME")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "walship.toml")
	if err := os.WriteFile(file, []byte("archive = \"file:///from/file\"\ntimeout = \"5m\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	conf, err := config.Load(config.Sources{
		Flags:     map[string]string{"config": "walship.toml", "known-hosts": "known_hosts", "timeout": "3m"},
		LookupEnv: func(name string) (string, bool) { return "file:///from/env", name == "WALSHIP_ARCHIVE" },
	})
	if err != nil {
		t.Fatal(err)
	}
	line, err := restoreCommandLine(conf)
	if err != nil {
		t.Fatal(err)
	}
	// PostgreSQL's own step: %% is %, %f and %p are what it asks for.
	line = strings.NewReplacer("%%", "%", "%f", "NAME", "%p", "pg_wal/RECOVERYXLOG").Replace(line)
	out, err := exec.Command("sh", "-c", "printf '%s\\n' "+line).Output()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{self, "fetch", "--config", file, "--archive", "file:///from/env", "--known-hosts", filepath.Join(dir, "known_hosts"), "NAME", "pg_wal/RECOVERYXLOG", ""}, "\n")
	if string(out) != want {
		t.Errorf("%s\nwant\n%s", out, want)
	}
}
