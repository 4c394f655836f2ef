package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walship/internal/testpg"
	"walship/internal/testsshd"
)

// On a terminal setup ssh asks whether to trust a host, and only a yes makes it.
func TestSetupSSHAsks(t *testing.T) {
	t.Parallel()
	srv := testsshd.Start(t, testsshd.Options{})
	a := newAdmin(t)
	setup := []string{"setup", "ssh", "--archive", srv.URL(filepath.Join(testpg.Dir(t), "wal"))}
	nothing := fingerprint(t, nil, a.home)
	for _, no := range []string{"no", "", "y e s", "n"} {
		s := a.terminal(setup...)
		s.expect(srv.Fingerprint)
		s.expect("Trust this key? (yes/no)")
		s.answer(no)
		s.ends(9)
	}
	// A question that is left by Ctrl-C is not a yes either.
	s := a.terminal(setup...)
	s.expect("(yes/no)")
	must(t, s.keys("\x03"))
	s.ends(15)
	same(t, "after a no", nothing, fingerprint(t, nil, a.home))

	s = a.terminal(setup...)
	s.expect("(yes/no)")
	s.answer("yes")
	s.expect("now trusted")
	for line := range strings.Lines(s.ends(9)) {
		if n := len([]rune(strings.TrimRight(line, "\n"))); n > 80 && !strings.Contains(line, "walship: ") && !strings.HasPrefix(line, "restrict,") {
			t.Errorf("a line of %d columns: %s", n, line)
		}
	}
	if _, err := os.Stat(a.config("known_hosts")); err != nil {
		t.Error(err)
	}
}

// What stands against setup primary is asked about, and so is the restart. Shown
// in colours, unless they are not wanted.
func TestSetupPrimaryAsks(t *testing.T) {
	t.Parallel()
	r := newRecipe(t, testpg.Options{Conf: map[string]string{"archive_command": "cp %p /nowhere/%f"}})
	t.Cleanup(func() { // who has restarted it is pg_ctl
		_, _ = r.primary.Run("pg_ctl", "-D", r.primary.Data, "-m", "immediate", "stop") // it may not run
	})
	setup := []string{"setup", "primary", "-D", r.primary.Data, "--standby", "127.0.0.1"}
	before := r.settled()
	const green = "\x1b[32m+"
	if shown := r.terminal(append(setup, "--dry-run")...).ends(0); !strings.Contains(shown, green) || !strings.Contains(shown, "would ask") {
		t.Errorf("a dry run on a terminal:\n%s", shown)
	}
	r.env = []string{"NO_COLOR=1"}
	if shown := r.terminal(append(setup, "--dry-run")...).ends(0); strings.Contains(shown, "\x1b") {
		t.Errorf("a dry run without colours:\n%q", shown)
	}
	r.env = nil
	s := r.terminal(setup...)
	s.expect("archive_command = 'cp %p /nowhere/%f'")
	s.expect("replace it with")
	s.expect("(yes/no)")
	s.answer("no")
	s.ends(5)
	same(t, "after a no", before, r.settled())

	s = r.terminal(setup...)
	s.expect("(yes/no)")
	s.answer("yes")
	s.expect("archive_mode, wal_log_hints: this takes a restart of the server, which ends its sessions; restart it now? (yes/no)")
	s.answer("no")
	s.expect("it is left to you")
	s.ends(0)
	s = r.terminal(setup...)
	s.expect("restart it now? (yes/no)")
	s.answer("yes")
	s.expect("archiving works")
	s.ends(0)
	if got := r.primary.Query("show archive_mode"); got != "on" {
		t.Errorf("archive_mode is %s", got)
	}

	// The standby's password can be typed: it is not shown, and a wrong one is not
	// kept. Ctrl-C leaves a terminal that shows what is typed.
	password := r.password()
	must(t, os.Remove(r.config("pgpass")))
	data := filepath.Join(testpg.Dir(t), "standby")
	follow := []string{"setup", "standby", "-D", data, "--primary", fmt.Sprintf("127.0.0.1:%d", r.primary.Port), "--port", fmt.Sprint(testpg.FreePort(t))}
	typed := func(password string) *terminal {
		t.Helper()
		s := r.terminal(follow...)
		s.expect("password of walship on 127.0.0.1:")
		testpg.WaitFor(t, soon, "the terminal to hide what is typed", func() bool { return !s.shows() })
		must(t, s.keys(password))
		return s
	}
	s = typed("\x03")
	testpg.WaitFor(t, soon, "the terminal to show what is typed", s.shows)
	s.ends(15)
	if shown := typed("Geheimnis\n").ends(17); !strings.Contains(shown, "password authentication failed") || strings.Contains(shown, "Geheimnis") {
		t.Errorf("a wrong password:\n%s", shown)
	}
	if _, err := os.Stat(r.config("pgpass")); err == nil {
		t.Error("a wrong password is kept")
	}
	s = typed(password + "\n")
	s.expect("copied into")
	if shown := s.ends(0); strings.Contains(shown, password) {
		t.Errorf("the password is shown:\n%s", shown)
	}
	if got := r.password(); got != password {
		t.Errorf("%q is kept", got)
	}
}
