// Package testbin builds the walship command for tests, once in each test
// process, into a folder from which every user can run it. A package that uses
// it has
//
//	func TestMain(m *testing.M) { defer testbin.Clean(); m.Run() }
//
// Tests with the race detector get a command with it, and Clean panics
// if that has found a race.
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

// Program is what runs when the command of this path does: with the race
// detector that is another file, the path being a script that starts it.
func Program(path string) string {
	if race {
		return path + ".race"
	}
	return path
}

// Clean removes what has been built. Nothing can be built afterwards.
func Clean() {
	dir, err := folder()
	if err != nil {
		return
	}
	found := races(dir)
	_ = os.RemoveAll(dir) // a folder left in /tmp fails no test
	if found != "" {
		panic("walship has data races\n" + found)
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
	args := []string{"build", "-tags", tags + moreTags, "-o", path, "walship/cmd/walship"}
	env := append(os.Environ(), "CGO_ENABLED=0")
	if race {
		args, env = append(args[:1:1], append([]string{"-race"}, args[1:]...)...), os.Environ()
	}
	cmd := exec.Command("go", args...)
	cmd.Env = env
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	if race {
		if err := wrap(path); err != nil {
			return "", err
		}
	}
	return path, os.Chmod(path, 0o755)
}

// wrap puts a script in the command's place that has the command write of its
// races to a file: servers and agents start it with an environment of their own,
// and what it has to say goes to their logs.
func wrap(path string) error {
	logs := filepath.Join(filepath.Dir(path), "races")
	if err := os.MkdirAll(logs, 0o777); err != nil {
		return err
	}
	if err := os.Chmod(logs, 0o777); err != nil { // whatever the umask is
		return err
	}
	if err := os.Rename(path, path+".race"); err != nil {
		return err
	}
	script := fmt.Sprintf("#!/bin/bash\nGORACE=log_path=%s/of exec -a %s %s \"$@\"\n", logs, path, Program(path))
	return os.WriteFile(path, []byte(script), 0o755)
}

// races is what the command has written of its races.
func races(dir string) (all string) {
	paths, _ := filepath.Glob(filepath.Join(dir, "races", "of.*")) // the pattern is well formed
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			text = []byte(err.Error())
		}
		all += string(text)
	}
	return all
}
