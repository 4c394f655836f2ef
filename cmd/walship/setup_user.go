package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"walship/internal/pgrun"
	"walship/transport"
)

// rootRefused is nil for everybody but root. Root is told the command line that
// does what was meant: the files that setup makes have to be the server's, and
// PostgreSQL's own programs refuse root, too. words are the command line, dir is
// the data directory if one was named.
func rootRefused(euid int, words []string, dir string) error {
	if euid != 0 {
		return nil
	}
	server := "postgres"
	if owner, err := pgrun.OwnerOf(existing(dir)); dir != "" && err == nil {
		server = owner.Name
	}
	line := []string{"sudo", "-u", server}
	for i, w := range words {
		if i == 0 {
			if exe, err := os.Executable(); err == nil && strings.Contains(w, "/") {
				w = exe // the other user may be in another folder
			}
		}
		line = append(line, shellWord(w))
	}
	return transport.WithHint(fmt.Errorf("%w: setup is for the user that PostgreSQL runs as, not for root: what it makes (key, password file, settings) has to be that user's", errUsage),
		strings.Join(line, " "))
}

// existing is the path, or the nearest folder above it that is there.
func existing(path string) string {
	for path = filepath.Clean(path); ; path = filepath.Dir(path) {
		if _, err := os.Stat(path); err == nil || path == filepath.Dir(path) {
			return path
		}
	}
}

// namedData is the data directory that the command line or PGDATA names.
func (s *setup) namedData() string { return cmp.Or(s.x.String("D"), os.Getenv("PGDATA")) }
