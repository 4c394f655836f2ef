// Package testbin builds the walship command for tests, once in each test
// process, into a folder from which every user can run it. A package that uses
// it has
//
//	func TestMain(m *testing.M) { defer testbin.Clean(); m.Run() }
package testbin

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

// TB is what this package needs of a test; testing.TB has it. Fatalf must not
// return to its caller.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
}

// Once in each process is what the variables below are for: a build takes
// seconds, and tests ask for it dozens of times.
var (
	folder = sync.OnceValues(makeFolder)
	plain  = sync.OnceValues(func() (string, error) { return build("walship", "") })
	faulty = sync.OnceValues(func() (string, error) { return build("walship-fault", ",fault") })
)

// Walship returns the path of the command as it is shipped.
func Walship(t TB) string {
	t.Helper()
	return path(t, plain)
}

// Faulty returns the path of the command with fault points (see internal/fault).
func Faulty(t TB) string {
	t.Helper()
	return path(t, faulty)
}

// Clean removes what has been built. Nothing can be built afterwards.
func Clean() {
	if dir, err := folder(); err == nil {
		_ = os.RemoveAll(dir) // a folder left in /tmp fails no test
	}
}

func path(t TB, built func() (string, error)) string {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatalf("%v", err)
	}
	return path
}

func makeFolder() (string, error) {
	parent := os.TempDir()
	if os.Geteuid() == 0 {
		parent = "/tmp" // root's own may be closed to others
	}
	dir, err := os.MkdirTemp(parent, "walship-bin-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}

// tags are those of the Makefile: without the library's generator of manual pages
// the command starts faster. (Its -trimpath would have everything compiled again.)
const tags = "urfave_cli_no_docs"

func build(name, moreTags string) (string, error) {
	dir, err := folder()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	cmd := exec.Command("go", "build", "-tags", tags+moreTags, "-o", path, "walship/cmd/walship")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return path, os.Chmod(path, 0o755)
}
