// Package testpg runs throwaway PostgreSQL clusters for tests and for the demo:
// real servers of version 10 and newer, each in a folder of its own, on
// 127.0.0.1 and on a socket in that folder. Servers may not run as root, so a
// root process runs them as the user postgres. Whatever is started here ends
// when the test ends, and also when the test's own process is killed.
package testpg

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// TB is what this package needs of a test; testing.TB has it. Fatalf must not
// return to its caller.
type TB interface {
	Helper()
	Cleanup(func())
	Failed() bool
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Install is a PostgreSQL that is installed on this machine.
type Install struct {
	Bin   string // folder of initdb, postgres and pg_ctl
	Major int
}

// Find returns the PostgreSQL of the given major version, or for 0 the newest
// one that brings its client tools. It looks at the folder that the environment
// variable PG_BIN names, in PATH, where Debian and others install, and for a
// major also in .cache/pg of the repository (see scripts/pg-versions).
func Find(major int) (Install, error) {
	var best Install
	for _, bin := range candidates(major) {
		found, err := inspect(bin)
		if err != nil || major != 0 && found.Major != major {
			continue
		}
		if major == 0 && !hasClients(bin) {
			continue
		}
		if bin == os.Getenv("PG_BIN") {
			return found, nil
		}
		if found.Major > best.Major {
			best = found
		}
	}
	if best.Bin == "" {
		what := "PostgreSQL"
		if major != 0 {
			what = fmt.Sprintf("PostgreSQL %d", major)
		}
		return best, fmt.Errorf("no %s server found: run scripts/deps or scripts/pg-versions, or set PG_BIN", what)
	}
	return best, nil
}

// hasClients reports whether a folder holds the client tools that tests use.
func hasClients(bin string) bool {
	for _, tool := range []string{"psql", "pgbench", "pg_basebackup", "pg_rewind"} {
		if !executable(filepath.Join(bin, tool)) {
			return false
		}
	}
	return true
}

func candidates(major int) []string {
	var bins []string
	if bin := os.Getenv("PG_BIN"); bin != "" {
		bins = append(bins, bin)
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		bins = append(bins, filepath.Dir(path))
	}
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin", "/opt/homebrew/opt/postgresql@*/bin"} {
		found, _ := filepath.Glob(pattern) // the pattern is well formed
		bins = append(bins, found...)
	}
	if root, ok := repository(); ok && major != 0 {
		bins = append(bins, filepath.Join(root, ".cache", "pg", strconv.Itoa(major), "bin"))
	}
	return bins
}

// repository is the folder of go.mod at or above the working directory.
func repository() (string, bool) {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, true
		}
		if dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	return "", false
}

var versionLine = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// inspected are the installs that inspect has found, by folder: to ask a server
// for its version costs more than most queries, and tests find it again and again.
var inspected sync.Map

func inspect(bin string) (Install, error) {
	if in, ok := inspected.Load(bin); ok {
		return in.(Install), nil
	}
	in, err := ask(bin)
	if err == nil {
		inspected.Store(bin, in)
	}
	return in, err
}

func ask(bin string) (Install, error) {
	out, err := exec.Command(filepath.Join(bin, "postgres"), "--version").Output()
	if err != nil {
		return Install{}, err
	}
	m := versionLine.FindSubmatch(out)
	if m == nil {
		return Install{}, fmt.Errorf("%s/postgres is of unknown version %q", bin, out)
	}
	major, err := strconv.Atoi(string(m[1]))
	return Install{Bin: bin, Major: major}, err
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// tool is the path of one of PostgreSQL's programs: this install's own, else
// that of the newest install that has client tools (psql and pgbench speak to
// servers of every version).
func (in Install) tool(name string) (string, error) {
	if path := filepath.Join(in.Bin, name); executable(path) {
		return path, nil
	}
	if full, err := Find(0); err == nil {
		if path := filepath.Join(full.Bin, name); executable(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("no %s found for PostgreSQL %d: run scripts/deps", name, in.Major)
}

// WaitFor asks done until it answers true, and fails the test when it has not
// after limit. what completes "waited 10s for …".
func WaitFor(t TB, limit time.Duration, what string, done func() bool) {
	t.Helper()
	if !Poll(limit, done) {
		t.Fatalf("waited %s for %s", limit, what)
	}
}

// Poll asks done until it answers true, which it reports, the last time at the
// deadline. In between it rests four times as long as the asking took: a
// backend costs more than most of what is waited for, and other tests need the
// processor.
func Poll(limit time.Duration, done func() bool) bool {
	deadline := time.Now().Add(limit)
	for {
		asked := time.Now()
		if done() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(min(max(25*time.Millisecond, 4*time.Since(asked)), time.Second))
	}
}

// tail is the end of s, at most n lines.
func tail(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
