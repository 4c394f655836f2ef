package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"walship/internal/testbin"
	"walship/internal/testnet"
)

// situation is a working directory, and what exit codes mean in it.
type situation struct {
	name    string
	version string            // folder of testdata/wal; "" for no data directory
	files   map[string]string // in the data directory
	doubt   int               // fetch, when nobody can tell
	unknown int               // a command line that names no command
	crash   bool              // fetch dies of a signal when it crashes
}

func situations() []situation {
	return []situation{
		{"standby", "15", map[string]string{"standby.signal": ""}, 1, 1, false},
		{"standby, which wins", "15", map[string]string{"standby.signal": "", "recovery.signal": ""}, 1, 1, false},
		{"archive recovery", "15", map[string]string{"recovery.signal": ""}, 126, 126, true},
		{"ending", "15", nil, 1, 2, false},
		{"standby of 11", "11", map[string]string{"recovery.conf": "standby_mode = on\n"}, 1, 1, false},
		{"archive recovery of 11", "11", map[string]string{"recovery.conf": "standby_mode = off\n"}, 126, 126, true},
		{"archive recovery of 9.0", "9.0", map[string]string{"recovery.conf": "restore_command = 'x'\n"}, 126, 126, true},
		{"ending of 11", "11", nil, 1, 2, false},
		{"by hand", "", nil, 126, 2, true},
	}
}

func (s situation) folder(t testing.TB) string {
	t.Helper()
	if s.version == "" {
		return t.TempDir()
	}
	dir := dataFolder(t, filepath.Join("testdata", "wal", s.version))
	for name, content := range s.files {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	return dir
}

const (
	aSegment = "000000010000000000000001"
	wanted   = "pg_wal/RECOVERYXLOG"
)

func TestExitCodesOfBrokenCommandLines(t *testing.T) {
	t.Parallel()
	binary := testbin.Walship(t)
	home := t.TempDir()
	config := func(name, text string) string {
		path := filepath.Join(home, name)
		must(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	good := config("good.toml", "archive = \"file://"+filepath.Join(home, "archive")+"\"\n")
	configs := map[string]string{
		"syntax":      config("syntax.toml", "archive = \"file:///a\n"),
		"unknown key": config("key.toml", "archve = \"file:///a\"\n"),
		"duration":    config("duration.toml", "archive = \"file:///a\"\ntimeout = \"soon\"\n"),
		"no archive":  config("none.toml", ""),
		"scheme":      config("scheme.toml", "archive = \"gopher://a/b\"\n"),
		"missing":     filepath.Join(home, "missing.toml"),
		"a folder":    home,
	}

	// What PostgreSQL's settings may come to hold by mistake.
	fetches := map[string][]string{
		"no arguments":        {"fetch"},
		"one argument":        {"fetch", aSegment},
		"three arguments":     {"fetch", aSegment, wanted, "more"},
		"swapped arguments":   {"fetch", wanted, aSegment},
		"empty arguments":     {"fetch", "", ""},
		"no WAL file":         {"fetch", "passwd", wanted},
		"flag":                {"fetch", "--no-such-flag", aSegment, wanted},
		"flag behind":         {"fetch", aSegment, wanted, "--no-such-flag"},
		"flag in front":       {"--no-such-flag", "fetch", aSegment, wanted},
		"flag without value":  {"fetch", aSegment, wanted, "--timeout"},
		"value of a flag":     {"fetch", "--timeout", "soon", aSegment, wanted},
		"mode":                {"fetch", "--mode", "primary", aSegment, wanted},
		"archive is absent":   {"fetch", aSegment, wanted},
		"no data directory":   {"fetch", "-D", "/nonexistent", aSegment, wanted},
		"archive unreachable": {"fetch", "--archive", "sftp://nobody@127.0.0.1:1/a", "--silence", "100ms", aSegment, wanted},
	}
	for name, path := range configs {
		fetches["configuration: "+name] = []string{"--config", path, "fetch", aSegment, wanted}
	}
	unknown := map[string][]string{
		"empty":             {},
		"an empty word":     {""},
		"unknown":           {"fetsch", aSegment, wanted},
		"capitals":          {"FETCH", aSegment, wanted},
		"only a flag":       {"--no-such-flag"},
		"no command at all": {aSegment, wanted},
		"version and more":  {"version", aSegment, wanted},
		"init and more":     {"init", aSegment, wanted},
	}
	for _, s := range situations() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			dir := s.folder(t)
			expect := func(name string, args []string, code int) {
				t.Helper()
				env := []string{"WALSHIP_CONFIG=" + good}
				r := run(t, dir, env, binary, args...)
				if r.code != code || r.stdout != "" || !strings.HasPrefix(r.stderr, "walship: ") {
					t.Errorf("%s: want exit code %d and a message: %v", name, code, r)
				}
			}
			for name, args := range fetches {
				expect("fetch: "+name, args, s.doubt)
			}
			for name, args := range unknown {
				expect("command: "+name, args, s.unknown)
			}
			// The archiver dies of more than 125.
			for name, args := range map[string][]string{
				"no arguments": {"push"}, "one argument": {"push", "pg_wal/" + aSegment},
				"three arguments": {"push", "pg_wal/" + aSegment, aSegment, "more"},
				"flag":            {"push", "--no-such-flag", "pg_wal/" + aSegment, aSegment},
				"flag behind":     {"push", "pg_wal/" + aSegment, aSegment, "--no-such-flag"},
			} {
				expect("push: "+name, args, 2)
			}
			for name, path := range configs {
				expect("push: configuration: "+name, []string{"push", "--config", path, "pg_wal/" + aSegment, aSegment}, 3)
			}
			expect("push: no such file", []string{"push", "pg_wal/" + aSegment, aSegment}, 13)
			expect("push: no WAL file", []string{"push", "PG_VERSION", "PG_VERSION"}, 4)
			// Help that goes to no terminal was asked for by mistake, except by hand.
			help := map[string]int{"push": 2, "fetch": s.doubt}
			if s.version == "" {
				help = map[string]int{"push": 0, "fetch": 0}
			}
			for command, code := range help {
				if r := run(t, dir, nil, binary, command, "--help"); r.code != code {
					t.Errorf("%s --help: want exit code %d: %v", command, code, r)
				}
			}
		})
	}
}

// A healthy archive's answers are the same for everyone.
func TestExitCodesOfAnswers(t *testing.T) {
	t.Parallel()
	binary := testbin.Walship(t)
	const there, miss = "000000020000000000000005", "000000020000000000000006"
	data, _ := unpack(t, "testdata/wal/15")
	archive := []string{"WALSHIP_ARCHIVE=file://" + filepath.Join(t.TempDir(), "archive")}
	for _, args := range [][]string{{"init"}, {"push", "pg_wal/" + there, there}} {
		if r := run(t, data, archive, binary, args...); r.code != 0 {
			t.Fatal(r)
		}
	}
	for _, s := range situations() {
		if s.version != "15" && s.version != "" {
			continue
		}
		dir := s.folder(t)
		must(t, os.MkdirAll(filepath.Join(dir, "pg_wal"), 0o700))
		if r := run(t, dir, archive, binary, "fetch", there, wanted); r.code != 0 || r.stderr != "" {
			t.Errorf("%s: delivery: %v", s.name, r)
		}
		must(t, os.Remove(filepath.Join(dir, wanted)))
		r := run(t, dir, archive, binary, "fetch", miss, wanted)
		if r.code != 1 || (r.stderr == "") != (s.version != "") {
			t.Errorf("%s: miss: %v", s.name, r)
		}
		if _, err := os.Stat(filepath.Join(dir, wanted)); !os.IsNotExist(err) {
			t.Errorf("%s: %v", s.name, err)
		}
	}
}

// Signals reach a call that waits for an archive which says nothing.
func TestSignals(t *testing.T) {
	t.Parallel()
	type call struct {
		name  string
		dir   string
		args  []string
		codes map[syscall.Signal]int
	}
	four := func(term, others int) map[syscall.Signal]int {
		return map[syscall.Signal]int{syscall.SIGTERM: term, syscall.SIGINT: others, syscall.SIGQUIT: others, syscall.SIGHUP: others}
	}
	var calls []call
	for _, s := range situations() {
		dir := s.folder(t)
		must(t, os.MkdirAll(filepath.Join(dir, "pg_wal"), 0o700))
		calls = append(calls, call{"fetch, " + s.name, dir, []string{"fetch", aSegment, wanted}, four(143, s.doubt)})
	}
	primary, _ := unpack(t, "testdata/wal/15")
	path := "pg_wal/000000010000000000000005"
	calls = append(calls, call{"push", primary, []string{"push", path, filepath.Base(path)}, four(15, 15)})
	for _, c := range calls {
		for signal, want := range c.codes {
			t.Run(fmt.Sprintf("%s, signal %d", c.name, signal), func(t *testing.T) {
				t.Parallel()
				pid, wait := callSilent(t, testbin.Walship(t), c.dir, nil, c.args...)
				begun := time.Now()
				must(t, syscall.Kill(pid, signal))
				r := wait()
				if r.code != want {
					t.Errorf("want exit code %d: %v", want, r)
				}
				if took := time.Since(begun); took > 2*time.Second {
					t.Errorf("ended after %v", took)
				}
				left, err := filepath.Glob(filepath.Join(c.dir, "pg_wal", "*RECOVERY*"))
				must(t, err)
				if len(left) != 0 {
					t.Errorf("left behind: %q", left)
				}
			})
		}
	}

	// PostgreSQL starts its commands with SIGINT ignored, which must stay so.
	t.Run("what is ignored stays ignored", func(t *testing.T) {
		t.Parallel()
		script := "trap '' INT; exec " + testbin.Walship(t) + " \"$@\""
		dir := situations()[2].folder(t)
		pid, wait := callSilent(t, "/bin/sh", dir, []string{"-c", script, "sh"}, "fetch", aSegment, wanted)
		must(t, syscall.Kill(pid, syscall.SIGINT))
		must(t, syscall.Kill(pid, syscall.SIGTERM))
		if r := wait(); r.code != 143 {
			t.Error(r)
		}
	})
}

// callSilent starts a call and returns when it has connected to an archive that
// will say nothing for a minute.
func callSilent(t testing.TB, binary, dir string, before []string, args ...string) (pid int, wait func() result) {
	t.Helper()
	p := testnet.New(t, "127.0.0.1:1")
	p.BlackHole(true)
	home := t.TempDir()
	must(t, os.WriteFile(filepath.Join(home, "known_hosts"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(home, "walship.toml"), fmt.Appendf(nil,
		"archive = \"sftp://someone@%s/archive\"\nsilence = \"1m\"\nssh_key = %q\nknown_hosts = %q\n",
		p.Addr(), filepath.Join(home, "key"), filepath.Join(home, "known_hosts")), 0o600))
	must(t, os.WriteFile(filepath.Join(home, "key"), aKey(t), 0o600))
	all := append(append([]string{}, before...), "--config", filepath.Join(home, "walship.toml"))
	pid, wait = begin(t, dir, nil, binary, append(all, args...)...)
	waitConnected(t, p)
	return pid, wait
}

// Go's own exit code for a crash is 2, which archive recovery would take for the
// end of WAL, and a signal is what the archiver would die of.
func TestCrashes(t *testing.T) {
	t.Parallel()
	binary := testbin.Faulty(t)
	for _, s := range situations() {
		dir := s.folder(t)
		crash := func(args ...string) result {
			t.Helper()
			r := run(t, dir, []string{"WALSHIP_FAULT=fetch.begin=panic,push.begin=panic"}, binary, args...)
			if !strings.Contains(r.stderr, "fault injected at "+args[0]+".begin") {
				t.Errorf("%s: no crash: %v", s.name, r)
			}
			return r
		}
		fetch := crash("fetch", aSegment, wanted)
		switch {
		case s.crash && fetch.signal != syscall.SIGABRT:
			t.Errorf("%s: fetch: %v", s.name, fetch)
		case !s.crash && (fetch.code < 1 || fetch.code > 125):
			t.Errorf("%s: fetch: %v", s.name, fetch)
		}
		if push := crash("push", "pg_wal/"+aSegment, aSegment); push.code < 1 || push.code > 125 {
			t.Errorf("%s: push: %v", s.name, push)
		}
		if cores, _ := filepath.Glob(filepath.Join(dir, "*core*")); len(cores) != 0 {
			t.Errorf("%s: left behind: %q", s.name, cores)
		}
	}
}
