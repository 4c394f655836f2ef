package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The unit that packages can ship is the one that setup writes.
func TestPackagedService(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("../../packaging", agentService))
	if err != nil {
		t.Fatal(err)
	}
	if want := serviceUnit("/usr/local/bin/walship", "/etc/walship/walship.toml", "postgres"); string(text) != want {
		t.Errorf("packaging/%s is\n%s\nwant\n%s", agentService, text, want)
	}
}

// systemd has nothing to say against the unit, wherever things lie.
func TestServiceVerifies(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "100% a $HOME")
	exe := filepath.Join(dir, "walship") // systemd takes no quotes and backslashes in the name of a program
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(exe, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	verify := func(unit string) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), agentService)
		if err := os.WriteFile(path, []byte(unit), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("systemd-analyze", "verify", "--man=no", path).CombinedOutput()
		if err != nil && len(out) == 0 {
			t.Fatal(err)
		}
		return string(out)
	}
	if said := verify(serviceUnit(exe, filepath.Join(dir, `it's "\a";.toml`), "root")); said != "" {
		t.Errorf("systemd says\n%s", said)
	}
	if said := verify(serviceUnit(exe+"2", "/x", "root")); said == "" {
		t.Error("systemd does not mind that there is no such program")
	}
}
