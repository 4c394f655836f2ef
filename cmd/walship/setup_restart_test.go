package main

import "testing"

// What a kernel says of a process tells the service that has to be restarted.
func TestUnitOf(t *testing.T) {
	for _, c := range []struct{ cgroup, unit string }{
		{"0::/system.slice/system-postgresql.slice/postgresql@15-main.service\n", "postgresql@15-main.service"},
		{"0::/system.slice/postgresql-15.service\n", "postgresql-15.service"},
		{"12:pids:/system.slice/postgresql.service\n1:name=systemd:/system.slice/postgresql.service\n0::/system.slice/postgresql.service\n", "postgresql.service"},
		{"0::/user.slice/user-101.slice/session-4.scope\n", ""}, // pg_ctl in a shell
		{"0::/system.slice/ssh.service\n", ""},                  // the same, through ssh without a session
		{"0::/\n", ""},                                          // a container
		{"", ""},
	} {
		if got := unitOf([]byte(c.cgroup)); got != c.unit {
			t.Errorf("%q: %q, want %q", c.cgroup, got, c.unit)
		}
	}
	r := restarter{words: []string{"/usr/bin/systemctl", "restart", "postgresql@15-main.service"}, root: true}
	if got, want := r.String(), "sudo /usr/bin/systemctl restart postgresql@15-main.service"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
