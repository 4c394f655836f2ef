package main

import (
	"os"
	"strings"
	"testing"

	"walship/transport"
)

// Root is told the whole command line that works, nobody else is told anything.
func TestRootRefused(t *testing.T) {
	words := []string{"walship", "setup", "primary", "--archive", "sftp://wal@backup/srv/wal", "-D", "/no such/data"}
	if err := rootRefused(1000, words, ""); err != nil {
		t.Errorf("another user is refused: %v", err)
	}
	err := rootRefused(0, words, "/no such/data")
	if classCode(err) != exitUsage || !strings.Contains(err.Error(), "not for root") {
		t.Errorf("%v", err)
	}
	if got, want := transport.Hint(err), "sudo -u postgres walship setup primary --archive sftp://wal@backup/srv/wal -D '/no such/data'"; got != want {
		t.Errorf("hint %q, want %q", got, want)
	}
	// A command that was named by its path is named by all of it.
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if got := transport.Hint(rootRefused(0, []string{"bin/walship", "setup", "ssh"}, "")); got != "sudo -u postgres "+exe+" setup ssh" {
		t.Errorf("hint %q", got)
	}
}
