// Package pgrun runs the PostgreSQL server of a data directory on this machine:
// it finds the programs of the right version, starts the server as the
// directory's owner, reads from its log how a recovery goes, and stops it. It
// writes nothing into the data directory but the server's log, and it starts no
// server whose version does not fit.
package pgrun

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"walship/internal/lazyre"
	"walship/internal/pgdata"
)

// ErrNoServer says that this machine has no PostgreSQL server of the version.
var ErrNoServer = errors.New("no server of that version was found")

// Install is a PostgreSQL on this machine.
type Install struct {
	Bin     string // folder of its programs
	Version pgdata.Version
}

// Find returns the PostgreSQL of that major version. It looks only into dir if
// that is named, and otherwise at PATH's own postgres, where Debian, Red Hat and
// Homebrew install, and where pg_config says. An error names all that was looked
// at and wraps ErrNoServer.
func Find(ctx context.Context, version pgdata.Version, dir string) (Install, error) {
	var looked []string
	for _, bin := range candidates(ctx, version, dir) {
		found, err := inspect(ctx, bin)
		switch {
		case errors.Is(err, os.ErrNotExist):
			looked = append(looked, bin)
		case err != nil:
			looked = append(looked, fmt.Sprintf("%s (%v)", bin, err))
		case found != version:
			looked = append(looked, fmt.Sprintf("%s (%s)", bin, found))
		default:
			return Install{Bin: bin, Version: version}, nil
		}
	}
	return Install{}, fmt.Errorf("PostgreSQL %s: %w; looked in %s", version, ErrNoServer, strings.Join(looked, ", "))
}

// Program returns the path of one of its programs; false if it does not bring
// that one.
func (in Install) Program(name string) (string, bool) {
	path := filepath.Join(in.Bin, name)
	info, err := os.Stat(path)
	return path, err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

func candidates(ctx context.Context, version pgdata.Version, dir string) []string {
	if dir != "" {
		return []string{dir}
	}
	var all []string
	add := func(bin string) {
		for _, known := range all {
			if known == bin {
				return
			}
		}
		all = append(all, bin)
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		// What is linked to has its other programs beside it.
		if real, err := filepath.EvalSymlinks(path); err == nil {
			add(filepath.Dir(real))
		}
		add(filepath.Dir(path))
	}
	for _, form := range []string{
		"/usr/lib/postgresql/%s/bin", "/usr/pgsql-%s/bin", "/usr/local/pgsql-%s/bin",
		"/opt/homebrew/opt/postgresql@%s/bin", "/usr/local/opt/postgresql@%s/bin",
	} {
		add(fmt.Sprintf(form, version))
	}
	add("/usr/local/pgsql/bin")
	if bin, err := output(ctx, "pg_config", "--bindir"); err == nil && filepath.IsAbs(bin) {
		add(bin)
	}
	return all
}

// versionLine is what postgres --version prints, "postgres (PostgreSQL) 15.20";
// of a test version "18beta1" or "9.5alpha1".
var versionLine = lazyre.MustCompile(`\(PostgreSQL\) (\d+)(?:\.(\d+))?`)

// inspect returns the version of the server in a folder. The error wraps
// fs.ErrNotExist if there is none.
func inspect(ctx context.Context, bin string) (pgdata.Version, error) {
	path := filepath.Join(bin, "postgres")
	if _, err := os.Stat(path); err != nil {
		return 0, err
	}
	text, err := output(ctx, path, "--version")
	if err != nil {
		return 0, err
	}
	v, ok := VersionIn(text)
	if !ok {
		return 0, fmt.Errorf("its version is %q", text)
	}
	return v, nil
}

// VersionIn reads the major version in what a program of PostgreSQL's prints for
// --version.
func VersionIn(text string) (pgdata.Version, bool) {
	m := versionLine().FindStringSubmatch(text)
	if m == nil {
		return 0, false
	}
	name := m[1]
	if major, err := strconv.Atoi(m[1]); err == nil && major < 10 {
		name += "." + m[2]
	}
	v, err := pgdata.ParseVersion(name)
	return v, err == nil
}

// output runs a program that ends at once and returns what it prints, trimmed.
func output(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = "/"
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}
