package main

import (
	"cmp"
	"context"
	"errors"
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

// dbServer is a server on this machine that is being set up.
type dbServer struct {
	data   *pgdata.Dir
	conn   *pgserver.Conn
	params pgserver.Params
	conf   string // postgresql.conf
	hba    string // pg_hba.conf
}

func (d *dbServer) close() {
	if d.conn != nil {
		_ = d.conn.Close() // nothing hangs on it
	}
}

// findServer finds the running server: that of -D or PGDATA, else the one that
// PGHOST and PGPORT lead to, else Debian's only running one, else the one at
// libpq's defaults. It connects as a superuser.
func (s *setup) findServer(ctx context.Context) (*dbServer, error) {
	dir := s.x.String("D")
	if dir == "" {
		dir = os.Getenv("PGDATA")
	}
	if dir == "" && os.Getenv("PGHOST") == "" && os.Getenv("PGPORT") == "" {
		running := runningDebian()
		if len(running) > 1 {
			var list []string
			for _, c := range running {
				list = append(list, c.Data)
			}
			return nil, usage("several servers run here: name one with -D: %s", strings.Join(list, ", "))
		}
		if len(running) == 1 {
			dir = running[0].Data
		}
	}
	d := &dbServer{}
	if dir != "" {
		var err error
		if d.data, err = pgdata.Open(dir); err != nil {
			return nil, err
		}
		if d.params.ConnString, err = connStringOf(d.data); err != nil {
			return nil, err
		}
	}
	if err := d.connect(ctx); err != nil {
		return nil, err
	}
	if err := s.identify(ctx, d); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func runningDebian() (running []pgdata.DebianCluster) {
	for _, c := range pgdata.DebianClusters(pgdata.EtcPostgreSQL) {
		if d, err := pgdata.Open(c.Data); err == nil && serverRuns(d) {
			running = append(running, c)
		}
	}
	return running
}

// serverRuns reports whether the process that postmaster.pid names is alive.
func serverRuns(d *pgdata.Dir) bool {
	p, err := d.Postmaster()
	return err == nil && p.PID > 0 && !errors.Is(syscall.Kill(p.PID, 0), syscall.ESRCH)
}

// connStringOf leads to the server of a data directory on this machine.
func connStringOf(d *pgdata.Dir) (string, error) {
	p, err := d.Postmaster()
	if err != nil || !serverRuns(d) {
		return "", transport.WithHint(fmt.Errorf("%w: no server runs in %s", pgserver.ErrServer, d.Path), "start it, then run this again")
	}
	host := p.Socket
	if host == "" {
		switch host = p.Listen; host {
		case "", "*", "0.0.0.0":
			host = "127.0.0.1"
		}
	}
	conn := ""
	if p.Port != "" {
		conn = fmt.Sprintf("host='%s' port=%s", strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(host), p.Port)
	}
	return conn, nil
}

func (d *dbServer) connect(ctx context.Context) (err error) {
	d.conn, err = pgserver.Connect(ctx, d.params)
	return err
}

// identify sees that the server is the one that is meant, and asks where its
// files are.
func (s *setup) identify(ctx context.Context, d *dbServer) error {
	super, err := d.conn.Value(ctx, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
	if err != nil {
		return err
	}
	if super != "t" {
		return transport.WithHint(fmt.Errorf("%w at %s: role %s is no superuser", pgserver.ErrServer, d.conn.Where(), d.conn.User()),
			"setup has to read all settings and make a role: connect as a superuser (PGUSER)")
	}
	row, err := d.conn.Row(ctx, "SELECT current_setting('data_directory'), current_setting('config_file'), current_setting('hba_file')")
	if err != nil {
		return err
	}
	if d.data == nil {
		if d.data, err = pgdata.Open(row[0]); err != nil {
			return transport.WithHint(err, "setup has to run on the server's own machine")
		}
	} else if a, err := filepath.EvalSymlinks(row[0]); err == nil {
		if b, err := filepath.EvalSymlinks(d.data.Path); err == nil && a != b {
			return fmt.Errorf("%w at %s: its data directory is %s, not %s", pgserver.ErrServer, d.conn.Where(), row[0], d.data.Path)
		}
	}
	if d.data.Version != d.conn.Version() {
		return fmt.Errorf("%w at %s: it is PostgreSQL %s, and %s belongs to %s", pgserver.ErrServer, d.conn.Where(), d.conn.Version(), d.data.Path, d.data.Version)
	}
	d.conf, d.hba = row[1], row[2]
	return nil
}

// restarter is the way to restart or start a server, as it was found.
type restarter struct {
	words  []string // the command line
	runsAs string   // "sudo " where it takes root
	dir    string   // where it runs; "" is "/"
}

func (r restarter) String() string {
	var quoted []string
	for _, w := range r.words {
		quoted = append(quoted, shellWord(w))
	}
	return r.runsAs + strings.Join(quoted, " ")
}

// howTo finds the way to "restart" or "start" the server of a data directory:
// systemd's if a unit of it runs the server, Debian's pg_ctlcluster, else pg_ctl.
func (s *setup) howTo(ctx context.Context, d *pgdata.Dir, verb string) (restarter, error) {
	if p, err := d.Postmaster(); err == nil && verb == "restart" {
		if unit := systemdUnit(p.PID); unit != "" {
			if path, err := exec.LookPath("systemctl"); err == nil {
				return restarter{words: []string{path, verb, unit}, runsAs: "sudo "}, nil
			}
		}
	}
	if c, ok := d.DebianCluster(pgdata.EtcPostgreSQL); ok {
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
	if conf, err := d.ConfigFile(pgdata.EtcPostgreSQL); verb == "start" && err == nil && filepath.Dir(conf) != d.Path {
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
	cmd := exec.CommandContext(ctx, r.words[0], r.words[1:]...)
	cmd.Dir = cmp.Or(r.dir, "/")
	// The server gets what PostgreSQL's own scripts give it: what a shell has
	// set would be there until the next restart, and then not.
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin"}
	for _, name := range []string{"LANG", "LC_ALL", "TZ"} {
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
		return transport.WithHint(fmt.Errorf("%w: %s: %w: %s", pgserver.ErrServer, r, err, strings.TrimSpace(string(text))),
			"see the server's log")
	}
	return nil
}

// shellWord makes s one word of a shell command.
func shellWord(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:@%,=", r))
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// wait asks done again and again until it is true, the time is up or the context
// has ended.
func wait(ctx context.Context, limit time.Duration, done func() (bool, error)) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		if ok, err := done(); ok || err != nil {
			return ok, err
		}
		select {
		case <-ctx.Done():
			return false, nil
		case <-time.After(100 * time.Millisecond):
		}
	}
}
