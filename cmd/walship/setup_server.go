package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
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
	dir := s.namedData()
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
	for _, c := range pgdata.DebianClusters(debianConf()) {
		if d, err := pgdata.Open(c.Data); err == nil && serverRuns(d) {
			running = append(running, c)
		}
	}
	return running
}

// serverRuns reports whether the process that postmaster.pid names is a server in
// that directory: after a reboot it may be any other.
func serverRuns(d *pgdata.Dir) bool {
	p, err := d.Postmaster()
	return err == nil && p.PID > 1 && pgrun.WorksIn(p.PID, d.Path)
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

// debianConf is where Debian keeps the configuration of its clusters: where its
// own tools look for it, too.
func debianConf() string { return cmp.Or(os.Getenv(debianConfVariable), pgdata.EtcPostgreSQL) }

const debianConfVariable = "PG_CLUSTER_CONF_ROOT"

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
