package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"walship/internal/pgdata"
	"walship/internal/pgrun"
	"walship/internal/pgserver"
	"walship/transport"
)

// restarter is the way to restart or start a server, as it was found.
type restarter struct {
	words []string // the command line
	root  bool     // it is systemctl's, which takes root, or a right that root has given
	dir   string   // where it runs; "" is "/"
}

func (r restarter) String() string {
	var quoted []string
	for _, w := range r.words {
		quoted = append(quoted, shellWord(w))
	}
	if r.root {
		quoted = append([]string{"sudo"}, quoted...)
	}
	return strings.Join(quoted, " ")
}

// howTo finds the way to "restart" or "start" the server of a data directory:
// systemd's if a unit of it runs the server, Debian's pg_ctlcluster, else pg_ctl.
func (s *setup) howTo(ctx context.Context, d *pgdata.Dir, verb string) (restarter, error) {
	if p, err := d.Postmaster(); err == nil && verb == "restart" {
		if unit := systemdUnit(p.PID); unit != "" {
			if path, err := exec.LookPath("systemctl"); err == nil {
				return restarter{words: []string{path, verb, unit}, root: true}, nil
			}
		}
	}
	if c, ok := d.DebianCluster(debianConf()); ok {
		if path, err := exec.LookPath("pg_ctlcluster"); err == nil {
			return restarter{words: []string{path, c.Version, c.Name, verb}}, nil
		}
	}
	install, err := pgrun.Find(ctx, d.Version, "")
	if err != nil {
		return restarter{}, err
	}
	ctl, ok := install.Program("pg_ctl")
	if !ok {
		return restarter{}, fmt.Errorf("%w: %s has no pg_ctl", pgrun.ErrNoServer, install.Bin)
	}
	words := []string{ctl, "-D", d.Path, "-w", "-t", "120"}
	folder := ""
	if verb == "restart" {
		words = append(words, "-m", "fast")
		// pg_ctl starts the server again with the words that it was started with.
		if folder, ok = d.StartFolder(); !ok {
			return restarter{}, transport.WithHint(
				fmt.Errorf("%w: the server in %s was started by a relative path, which a restart could not follow", pgserver.ErrServer, d.Path),
				"stop it, start it with pg_ctl -D "+shellWord(d.Path)+" start, and run this again")
		}
	}
	if conf, err := d.ConfigFile(debianConf()); verb == "start" && err == nil && filepath.Dir(conf) != d.Path {
		words = append(words, "-o", "-c config_file="+conf)
	}
	return restarter{words: append(words, "-l", filepath.Join(d.Path, "startup.log"), verb), dir: folder}, nil
}

// systemdUnit is the service that a process belongs to, "" if to none that is a
// server's.
func systemdUnit(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return ""
	}
	return unitOf(text)
}

// unitOf reads it from the lines of /proc/PID/cgroup.
func unitOf(text []byte) string {
	for line := range strings.Lines(string(text)) {
		unit := filepath.Base(strings.TrimSpace(line))
		if strings.HasPrefix(unit, "postgres") && strings.HasSuffix(unit, ".service") {
			return unit
		}
	}
	return ""
}

// run runs it, as this user.
func (r restarter) run(ctx context.Context) error {
	args := r.words[1:]
	if r.root { // who may not is told so, not asked for a password
		args = append([]string{"--no-ask-password"}, args...)
	}
	cmd := exec.CommandContext(ctx, r.words[0], args...)
	cmd.Dir = cmp.Or(r.dir, "/")
	// The server gets what PostgreSQL's own scripts give it: what a shell has
	// set would be there until the next restart, and then not.
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin"}
	for _, name := range []string{"LANG", "LC_ALL", "TZ", debianConfVariable} {
		if v := os.Getenv(name); v != "" {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.WaitDelay = time.Second
	log, err := os.CreateTemp("", "walship-setup-")
	if err != nil {
		return localError(err)
	}
	defer os.Remove(log.Name())
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log // no pipe: the server keeps it open
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(log.Name()) // the error counts
		hint := "see the server's log"
		if r.root {
			hint = "have it done by somebody who may, then run this again: " + r.String()
		}
		return transport.WithHint(fmt.Errorf("%w: %s: %w: %s", pgserver.ErrServer, r.words[0], err, strings.TrimSpace(string(text))), hint)
	}
	return nil
}
