package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"

	"walship/internal/layout"
	"walship/internal/pgconf"
	"walship/internal/pgserver"
	"walship/internal/stored"
	"walship/transport"
	"walship/walname"
)

// reload makes the server read its files, and returns the settings that wait for
// a restart.
func (s *setup) reload(ctx context.Context, d *dbServer, p *primaryPlan) (waiting []string, err error) {
	if err := s.checkFiles(ctx, d); err != nil {
		return nil, err
	}
	if _, err := d.conn.Query(ctx, "SELECT pg_reload_conf()"); err != nil {
		return nil, err
	}
	current := make(map[string]string)
	read, err := wait(ctx, 20*time.Second, func() (bool, error) {
		for _, a := range p.plan.Set {
			value, err := d.conn.Value(ctx, "SELECT setting || coalesce(CASE WHEN unit IN ('s', 'ms') THEN unit END, '') FROM pg_settings WHERE name = "+pgserver.Literal(a.Name))
			if err != nil {
				return false, err
			}
			current[a.Name] = value
			if a.Name == "archive_command" && value != a.Value && value != "(disabled)" {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	if !read {
		return nil, transport.WithHint(fmt.Errorf("%w at %s: after a reload archive_command is still %q", pgserver.ErrServer, d.conn.Where(), current["archive_command"]),
			"the server's log says which line of which file keeps it from reading them")
	}
	for _, a := range p.plan.Set {
		if pgconf.NeedsRestart(d.data.Version, a.Name) && !strings.EqualFold(current[a.Name], a.Value) {
			waiting = append(waiting, a.Name)
		}
	}
	for name, off := range map[string]string{"archive_mode": "off", "wal_level": "minimal"} {
		value, err := d.conn.Value(ctx, "SELECT setting FROM pg_settings WHERE name = "+pgserver.Literal(name))
		if err != nil {
			return nil, err
		}
		if _, ours := current[name]; value == off && !ours {
			waiting = append(waiting, name)
		}
	}
	return waiting, nil
}

// checkFiles asks the server whether it would take its files as they are now, on
// which its next start hangs. Before 9.5 it cannot tell.
func (s *setup) checkFiles(ctx context.Context, d *dbServer) error {
	if d.data.Version < 90500 {
		return nil
	}
	rows, err := d.conn.Query(ctx, "SET lc_messages = 'C'; SELECT sourcefile, sourceline, name, error FROM pg_file_settings WHERE error IS NOT NULL AND error <> 'setting could not be applied'")
	if err != nil || len(rows) == 0 {
		return err
	}
	r := rows[0]
	return transport.WithHint(fmt.Errorf("%w at %s: it refuses its configuration: %s, line %s: %s: %s", pgserver.ErrServer, d.conn.Where(), r[0], r[1], r[2], r[3]),
		"mend that line before the server is started anew: it would not start; walship setup undo puts back what setup has changed")
}

// restart restarts the server if that is agreed to. done is false if it was not.
func (s *setup) restart(ctx context.Context, d *dbServer, waiting []string) (done bool, err error) {
	how, err := s.howTo(ctx, d.data, "restart")
	if err != nil {
		return false, err
	}
	names := strings.Join(waiting, ", ")
	yes := s.x.Bool("restart")
	if !yes {
		yes, _ = s.ask(fmt.Sprintf("%s: this takes a restart of the server, which ends its sessions; restart it now?", names))
	}
	if !yes {
		s.line("restart", "needed for %s. It ends the server's sessions, so it is left to you:", names)
		s.print("\n%s\n", how)
		s.line("then", "run this again: it sees a segment arrive in the archive. (--restart does both.)")
		return false, nil
	}
	s.line("restart", "for %s: %s", names, how)
	s.changed++
	d.close()
	if err := how.run(ctx); err != nil {
		return false, err
	}
	var last error
	ok, err := wait(ctx, time.Minute, func() (bool, error) {
		last = d.connect(ctx)
		return last == nil, nil
	})
	if err == nil && !ok {
		err = last
	}
	return ok, err
}

// prove closes a segment and sees it arrive in the archive. If nothing was
// changed, a segment that the server has archived already is proof enough.
func (s *setup) prove(ctx context.Context, d *dbServer) error {
	v := d.data.Version
	if s.changed == 0 && v >= 90400 {
		a, err := d.conn.Archiver(ctx)
		if err != nil {
			return err
		}
		if a.LastArchived != "" && !a.LastFailedIsLatest {
			s.line("archiving", "works: %s was archived at %s", a.LastArchived, a.LastArchivedTime.UTC().Format("2006-01-02 15:04:05 UTC"))
			return nil
		}
	}
	began := time.Now()
	if v >= 90100 {
		if _, err := d.conn.Query(ctx, "SELECT pg_create_restore_point('walship setup')"); err != nil {
			return err
		}
	}
	sql := "SELECT pg_walfile_name(pg_switch_wal())"
	if v < 100000 {
		sql = "SELECT pg_xlogfile_name(pg_switch_xlog())"
	}
	text, err := d.conn.Value(ctx, sql)
	if err != nil {
		return err
	}
	name, err := walname.Parse(text)
	if err != nil {
		return err
	}
	arrived, err := s.arrives(ctx, d, name)
	if err != nil {
		return err
	}
	if !arrived {
		return transport.WithHint(fmt.Errorf("%w at %s: %s has not arrived in the archive after %s", pgserver.ErrServer, d.conn.Where(), text, arriveLimit),
			"the server's log has what its archive_command said")
	}
	s.line("archiving", "works: %s was closed and is in the archive, after %.1f s", text, time.Since(began).Seconds())
	return nil
}

// arriveLimit is how long a segment may take to arrive: the archiver asks again
// within a minute after failures.
const arriveLimit = 75 * time.Second

// arrives waits for a file of that name in the archive.
func (s *setup) arrives(ctx context.Context, d *dbServer, name walname.Name) (bool, error) {
	store, err := open(ctx, s.conf, silencePatient)
	if err != nil {
		return false, err
	}
	defer func() { _ = store.Close() }()
	stem := layout.Cluster{SystemID: d.data.Control.SystemID}.Stem(name)
	tried := ""
	return wait(ctx, arriveLimit, func() (bool, error) {
		for _, ext := range stored.Extensions(stored.Written()) {
			_, err := store.Head(ctx, path.Clean(stem+ext), 0)
			if err == nil {
				return true, nil
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return false, err
			}
		}
		// The archiver is at the first segment that fails, and tries it again within a
		// minute. No need to wait for what fails by hand, too.
		a, err := d.conn.Archiver(ctx)
		if err != nil || !a.LastFailedIsLatest || a.LastFailed == tried {
			return false, err
		}
		tried = a.LastFailed
		return false, s.pushByHand(ctx, d, a)
	})
}

// pushByHand pushes the segment at which the archiver fails, in an environment as
// poor as the server's. Its error is the reason.
func (s *setup) pushByHand(ctx context.Context, d *dbServer, a pgserver.Archiver) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.conf.Timeout+2*grace)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe, "--config", s.file, "push", filepath.Join(filepath.Base(d.data.WALDir()), a.LastFailed), a.LastFailed)
	cmd.Dir, cmd.Env = d.data.Path, []string{"PATH=/usr/bin:/bin"}
	said, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	reason, hint, _ := strings.Cut(strings.TrimSpace(string(said)), "\nwalship: hint: ")
	failed := fmt.Errorf("%w at %s: it cannot archive %s (archived %d, failed %d): %s", pgserver.ErrServer, d.conn.Where(), a.LastFailed,
		a.Archived, a.Failed, strings.TrimPrefix(reason, "walship: push: "))
	if hint == "" {
		return failed
	}
	return transport.WithHint(failed, hint)
}
