package integration_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"walship/internal/testbin"
	"walship/internal/testpg"
)

// admin is whoever sets a server up: the server's user, with a home of its own
// that setup finds empty.
type admin struct {
	t      testing.TB
	home   string
	binary string
	env    []string
	path   string // PATH, "" for the usual one: where the server's programs are
}

func newAdmin(t testing.TB) *admin {
	t.Helper()
	return &admin{t: t, home: testpg.Dir(t), binary: testbin.Walship(t)}
}

func (a *admin) config(name string) string { return filepath.Join(a.home, "conf", name) }

// run runs walship as the server's user, with the configuration in the home.
func (a *admin) run(args ...string) result {
	a.t.Helper()
	cmd, err := testpg.As(a.command(args...))
	must(a.t, err)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		a.t.Fatal(err)
	}
	return result{code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
}

// command is walship with the configuration in the home.
func (a *admin) command(args ...string) *exec.Cmd {
	cmd := exec.Command(a.binary, append([]string{"--config", a.config("walship.toml")}, args...)...)
	cmd.Dir = a.home
	cmd.Env = append([]string{"PATH=" + a.path + "/usr/bin:/bin", "HOME=" + a.home}, a.env...)
	return cmd
}

// want runs walship and wants that exit code, and these texts in what it prints.
func (a *admin) want(code int, texts []string, args ...string) result {
	a.t.Helper()
	r := a.run(args...)
	if r.code != code {
		a.t.Fatalf("walship %s: %v, want code %d", strings.Join(args, " "), r, code)
	}
	all := strings.Join(strings.Fields(r.stdout+"\n"+r.stderr), " ")
	for _, text := range texts {
		if !strings.Contains(all, text) {
			a.t.Fatalf("walship %s: nothing of %q in\n%s\n%s", strings.Join(args, " "), text, r.stdout, r.stderr)
		}
	}
	return r
}

// fingerprint sums up every file below the folders: names, modes, owners and
// contents. Sockets and what except names are left out.
func fingerprint(t testing.TB, except func(path string) bool, folders ...string) map[string]string {
	t.Helper()
	sums := map[string]string{}
	for _, folder := range folders {
		must(t, filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) || err == nil && except != nil && except(path) {
				return nil
			}
			if err != nil {
				return err
			}
			info, err := os.Lstat(path)
			if err != nil {
				return err
			}
			text := info.Mode().String()
			if info.Mode().IsRegular() {
				content, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				text += fmt.Sprintf(" %x", sha256.Sum256(content))
			}
			sums[path] = text
			return nil
		}))
	}
	return sums
}

// same fails the test if two fingerprints differ.
func same(t testing.TB, what string, before, after map[string]string) {
	t.Helper()
	for path, sum := range before {
		if after[path] != sum {
			t.Errorf("%s: %s was %q, is %q", what, path, sum, after[path])
		}
	}
	for path := range after {
		if _, ok := before[path]; !ok {
			t.Errorf("%s: %s is new", what, path)
		}
	}
}
