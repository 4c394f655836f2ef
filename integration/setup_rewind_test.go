package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walship/internal/testbin"
	"walship/internal/testpg"
)

// parted is an old primary, killed, and the one that was promoted in its place.
// Each has rows that the other has not.
type parted struct {
	*recipe
	now    *testpg.Cluster
	rejoin []string // the command line
	bin    string   // a folder of PostgreSQL's programs, which a test may replace
	conf   map[string][]byte
}

func newParted(t *testing.T) *parted {
	t.Helper()
	p := &parted{recipe: newRecipe(t, testpg.Options{})}
	old := p.primary
	p.bin = filepath.Join(testpg.Dir(t), "bin")
	must(t, os.Mkdir(p.bin, 0o755))
	programs, err := filepath.Glob(filepath.Join(old.Bin, "*"))
	must(t, err)
	for _, program := range programs {
		must(t, os.Symlink(program, filepath.Join(p.bin, filepath.Base(program))))
	}
	p.program("postgres", `exec "$REAL" "$@"`) // no link: where that leads to the others are looked for
	p.path = p.bin + ":"

	setup := []string{"setup", "primary", "-D", old.Data, "--standby", "127.0.0.1"}
	p.want(0, nil, setup...)
	must(t, old.Restart(testpg.Fast))
	p.want(0, []string{"archiving works"}, setup...)
	old.Query("create table rows (n int primary key, at timestamptz)")
	p.takeBackup(old)
	data, port := filepath.Join(testpg.Dir(t), "standby"), testpg.FreePort(t)
	p.want(0, nil, "setup", "standby", "-D", data, "--primary", fmt.Sprintf("127.0.0.1:%d", old.Port), "--port", fmt.Sprint(port))
	p.now = testpg.AdoptAt(t, data, port, old.Sockets)
	must(t, p.now.Start())
	last := insert(old)
	testpg.WaitFor(t, soon, "the last row on the standby", func() bool {
		n, err := p.now.Psql("select count(*) from rows")
		return err == nil && n == last
	})
	must(t, p.now.Promote())
	must(t, p.now.WaitPrimary(soon))
	p.now.Query("create table young as select g from generate_series(1, 20000) g")
	old.Query("create table lost as select g from generate_series(1, 20000) g")
	old.Archive(soon)
	must(t, old.Kill9())
	p.now.Archive(soon)
	p.conf = map[string][]byte{}
	for _, name := range []string{"postgresql.conf", "walship.conf", "pg_hba.conf"} {
		p.conf[name], err = os.ReadFile(filepath.Join(old.Data, name))
		must(t, err)
	}
	p.rejoin = []string{"setup", "standby", "-D", old.Data, "--primary", fmt.Sprintf("127.0.0.1:%d", port), "--port", fmt.Sprint(old.Port), "--rejoin", "--force"}
	return p
}

// program replaces one of PostgreSQL's by a script, for which REAL is the one that
// it replaces.
func (p *parted) program(name, script string) {
	p.t.Helper()
	path := filepath.Join(p.bin, name)
	must(p.t, os.Remove(path))
	must(p.t, os.WriteFile(path, []byte("#!/bin/sh\nREAL="+filepath.Join(p.primary.Bin, name)+"\n"+script+"\n"), 0o755))
}

// noStart fails the test if the old primary would start, given a configuration
// that is whole: where it lies elsewhere, pg_rewind does not touch it.
func (p *parted) noStart(why string) {
	p.t.Helper()
	for name, text := range p.conf {
		path := filepath.Join(p.primary.Data, name)
		must(p.t, os.WriteFile(path, text, 0o600))
		must(p.t, testpg.Own(path))
	}
	p.primary.ClearLog()
	if err := p.primary.Start(); err == nil {
		p.t.Fatalf("%s: the old primary starts", why)
	}
	if log := p.primary.Log(); !strings.Contains(log, "has invalid permissions") {
		p.t.Fatalf("%s: the old primary does not start because of\n%s", why, log)
	}
}

// follows fails the test if the old primary does not start, with the rows of the
// new one and its own configuration.
func (p *parted) follows() {
	p.t.Helper()
	old := p.primary
	must(p.t, old.Start())
	testpg.WaitFor(p.t, soon, "the rows of the new primary", func() bool {
		n, err := old.Psql("select count(*) from young")
		return err == nil && n == "20000"
	})
	if n := old.Query("select count(*) from pg_class where relname = 'lost'"); n != "0" {
		p.t.Error("what was lost is there")
	}
	if port := old.Query("show port"); port != fmt.Sprint(old.Port) {
		p.t.Errorf("the old primary has the configuration of another: port %s", port)
	}
	p.want(0, []string{"streaming", "everything is as it should be"}, p.rejoin...)
}

// Killed before pg_rewind begins, or behind it, setup completes the work when it is
// run again. What keeps pg_rewind from beginning changes nothing.
func TestSetupRejoinKilled(t *testing.T) {
	t.Parallel()
	p := newParted(t)
	p.program("pg_rewind", `echo "pg_rewind (PostgreSQL) 9.6.24"`)
	p.want(13, []string{"pg_rewind is of another version (pg_rewind (PostgreSQL) 9.6.24) than " + p.primary.Data, "first in PATH", "--new-copy"}, p.rejoin...)
	p.program("pg_rewind", `exec "$REAL" "$@"`)
	p.want(17, []string{`role "nobody" does not exist`, "--rewind-user"}, append(p.rejoin, "--rewind-user", "nobody")...)
	if info, err := os.Stat(p.primary.Data); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("what has not begun keeps the old primary from starting: %v %v", info, err)
	}
	p.binary = testbin.Faulty(t)
	for _, step := range []string{"setup.rewinding", "setup.rewound"} {
		p.env = []string{"WALSHIP_FAULT=" + step + "=kill"}
		if got := p.run(p.rejoin...); got.code != -1 {
			t.Fatalf("%s: %v", step, got)
		}
		p.env = nil
		if step == "setup.rewinding" {
			p.noStart("killed before pg_rewind")
		}
	}
	p.want(0, []string{"wrote"}, p.rejoin...)
	p.follows()
}

// pg_rewind killed in its work leaves a directory in which no server starts, and
// what helps is said, and helps.
func TestSetupRewindKilled(t *testing.T) {
	t.Parallel()
	p := newParted(t)
	// By its 40th write it is in the middle.
	p.program("pg_rewind", `[ "$1" = --version ] && exec "$REAL" "$@"
exec strace -qq -o /dev/null -e trace=write -e inject=write:signal=KILL:when=40 "$REAL" "$@"`)
	p.want(17, []string{"pg_rewind: signal: killed", "is half rewound, and no server starts there", "--new-copy"}, p.rejoin...)
	p.noStart("pg_rewind was killed")
	p.want(17, []string{"is half rewound, and no server starts there", "--new-copy"}, p.rejoin...)
	p.noStart("pg_rewind was killed twice")

	p.takeBackup(p.now)
	p.binary = testbin.Faulty(t)
	p.env = []string{"WALSHIP_FAULT=setup.movedaway=kill"}
	if got := p.run(append(p.rejoin, "--new-copy")...); got.code != -1 {
		t.Fatalf("%v", got)
	}
	p.env = nil
	p.want(0, []string{"restored into"}, append(p.rejoin, "--new-copy")...)
	if old, err := filepath.Glob(p.primary.Data + ".old-*"); err != nil || len(old) != 1 {
		t.Errorf("the old folder is kept as %v", old)
	}
	p.follows()
}

// A pg_rewind that has outlived its setup is not joined by a second one.
func TestSetupRewindGoesOn(t *testing.T) {
	t.Parallel()
	p := newParted(t)
	gate := filepath.Join(p.bin, "gate")
	p.program("pg_rewind", `[ "$1" = --version ] && exec "$REAL" "$@"
mkfifo `+gate+` && read -r go <`+gate+` && exec "$REAL" "$@"`)
	must(t, testpg.Own(p.bin))
	first, err := testpg.As(p.command(p.rejoin...))
	must(t, err)
	must(t, first.Start())
	testpg.WaitFor(t, soon, "pg_rewind", func() bool { _, err := os.Stat(gate); return err == nil })
	must(t, first.Process.Kill())
	_ = first.Wait() // it was killed
	p.want(17, []string{"another run, or pg_rewind as it has started it, still works in " + p.primary.Data, "wait for its end"}, p.rejoin...)
	must(t, os.WriteFile(gate, []byte("go\n"), 0o600))
	testpg.WaitFor(t, soon, "the end of pg_rewind", func() bool {
		got := p.run(p.rejoin...)
		return got.code == 0
	})
	p.follows()
}
