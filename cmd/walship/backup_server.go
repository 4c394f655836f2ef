package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"walship/archive"
	"walship/internal/config"
	"walship/internal/pgserver"
	"walship/transport"
)

// serverFlags name a running server as PostgreSQL's own tools do, but for the -h
// that is help here. There is none for a password: it would be seen by all.
func serverFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "dbname", Aliases: []string{"d"}, Usage: "connection string, or name of the database to connect to"},
		&cli.StringFlag{Name: "host", Usage: "server's host, or folder of its socket"},
		&cli.StringFlag{Name: "port", Aliases: []string{"p"}, Usage: "server's port"},
		&cli.StringFlag{Name: "username", Aliases: []string{"U"}, Usage: "role to connect as"},
	}
}

// serverParams puts them together; as with PostgreSQL's tools a connection
// string overrides the others.
func serverParams(x *cli.Context) (pgserver.Params, error) {
	db := x.String("dbname")
	uri := strings.HasPrefix(db, "postgres://") || strings.HasPrefix(db, "postgresql://")
	var words []string
	for _, f := range []struct{ flag, key string }{{"host", "host"}, {"port", "port"}, {"username", "user"}} {
		value := x.String(f.flag)
		if value == "" {
			continue
		}
		if uri {
			return pgserver.Params{}, usage("--%s beside a connection URI: put it into the URI", f.flag)
		}
		if f.flag == "port" {
			if n, err := strconv.ParseUint(value, 10, 16); err != nil || n == 0 {
				return pgserver.Params{}, usage("--port %s: not a port", value)
			}
		}
		words = append(words, f.key+"="+quoteConninfo(value))
	}
	switch {
	case uri:
		return pgserver.Params{ConnString: db}, nil
	case strings.Contains(db, "="):
		words = append(words, db)
	case db != "":
		words = append(words, "dbname="+quoteConninfo(db))
	}
	return pgserver.Params{ConnString: strings.Join(words, " ")}, nil
}

// quoteConninfo writes a value of a connection string.
func quoteConninfo(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// systemID asks for the cluster's identifier; 0 before 9.6, which tells it only
// over the replication protocol.
func systemID(ctx context.Context, c *pgserver.Conn) (uint64, error) {
	if c.Version() < 90600 {
		return 0, nil
	}
	text, err := c.Value(ctx, "SELECT system_identifier FROM pg_control_system()")
	if err != nil {
		return 0, err
	}
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: it gives the system identifier %q", pgserver.ErrServer, text)
	}
	return uint64(id), nil
}

// checkArchiver refuses a primary that is known to archive nothing. Of a standby
// its own settings tell nothing: its primary archives.
func checkArchiver(ctx context.Context, c *pgserver.Conn) error {
	a, err := c.Archiver(ctx)
	if err != nil {
		return err
	}
	say := func(format string, args ...any) error {
		return transport.WithHint(
			fmt.Errorf("%w does not archive: %s; without WAL in the archive a backup cannot be restored", pgserver.ErrServer, fmt.Sprintf(format, args...)),
			"set archive_mode = on and archive_command = 'walship push %p %f', which takes a restart for archive_mode; if something else brings the WAL: --no-archiver-check")
	}
	switch {
	case a.Standby:
		return nil
	case a.Mode == "off":
		return say("archive_mode is off")
	case a.Command == "" && a.Library == "":
		return say("archive_command is empty")
	}
	return nil
}

// When a wait for WAL is spoken of: at first after a moment, as most end sooner.
const (
	firstWord = 5 * time.Second
	nextWord  = time.Minute
)

// waiting tells now and then what is waited for, and how to see why.
func (b *backupCall) waiting(ctx context.Context, w archive.WALWait) {
	b.endProgress()
	if w.Since < firstWord || b.waited > 0 && w.Since-b.waited < nextWord {
		return
	}
	b.waited = w.Since
	if b.quiet {
		return
	}
	if w.Err != nil {
		b.warn(fmt.Sprintf("the archive could not be asked for %s, which the backup needs: %v", w.Missing, w.Err))
		return
	}
	b.tell(fmt.Sprintf("everything is copied; waiting for %s to come into the archive (for %s now, at most %s)",
		w.Missing, w.Since.Round(time.Second), config.FormatDuration(b.options.walLimit)))
	b.hint(b.whyNoWAL(ctx, w.Missing))
}

// whyNoWAL is what is known of the reason why a segment is not archived.
func (b *backupCall) whyNoWAL(ctx context.Context, missing string) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := pgserver.Connect(ctx, b.options.Params)
	if err != nil {
		return fmt.Sprintf("the server could not be asked why: %v", err)
	}
	defer c.Close()
	a, err := c.Archiver(ctx)
	if err != nil {
		return fmt.Sprintf("the server could not be asked why: %v", err)
	}
	change, folder := "pg_switch_wal()", "pg_wal"
	if c.Version() < 100000 {
		change, folder = "pg_switch_xlog()", "pg_xlog"
	}
	switch {
	case b.standby || a.Standby:
		return "a standby does not end a segment by itself: on the primary, SELECT " + change + " does; the primary's pg_stat_archiver tells whether it archives"
	case a.LastFailedIsLatest:
		return fmt.Sprintf("the server's archiver fails, last with %s at %s, %d times in all: the server's log tells why, or in the data directory: walship push %s/%s %s",
			a.LastFailed, a.LastFailedTime.Format(time.RFC3339), a.Failed, folder, a.LastFailed, a.LastFailed)
	case a.Mode == "off" || a.Command == "" && a.Library == "":
		return "the server does not archive: archive_mode is " + a.Mode + "; by hand, in the data directory: walship push " + folder + "/NAME NAME"
	case missing != "" && a.LastArchived >= missing && len(a.LastArchived) >= 24 && a.LastArchived[:8] == missing[:8]:
		return fmt.Sprintf("the server has archived %s already: does its archive_command lead to this archive?", a.LastArchived)
	case a.LastArchived != "":
		return fmt.Sprintf("the server archived %s last, at %s; what waits for it: ls %s/archive_status/*.ready",
			a.LastArchived, a.LastArchivedTime.Format(time.RFC3339), folder)
	}
	return "the server has archived nothing yet: its log tells what its archive_command says"
}
