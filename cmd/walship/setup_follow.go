package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"walship/internal/pgserver"
	"walship/transport"
	"walship/walname"
)

// follows waits until the standby has replayed what the primary had when it was
// asked, and shows how far it has come.
func (s *setup) follows(ctx context.Context, f *follower) error {
	is, err := pgserver.Identify(ctx, f.primary)
	if err != nil {
		return err
	}
	d := &dbServer{data: f.data}
	defer func() { d.close() }()
	function := "pg_last_wal_replay_lsn()"
	if f.data.Version < 100000 {
		function = "pg_last_xlog_replay_location()"
	}
	var at walname.LSN
	var last error
	told := time.Now()
	caught, err := wait(ctx, catchUpLimit, func() (bool, error) {
		if !serverRuns(f.data) {
			return false, transport.WithHint(fmt.Errorf("%w: the standby in %s has stopped", pgserver.ErrServer, f.dir), "its log tells why; pg_ctl's begins in "+filepath.Join(f.dir, "startup.log"))
		}
		if d.conn == nil || !d.conn.Alive() {
			if d.params.ConnString, last = connStringOf(f.data); last == nil {
				last = d.connect(ctx)
			}
			if last != nil {
				d.conn = nil
				return false, nil // it still starts
			}
		}
		var text string
		if text, last = d.conn.Value(ctx, "SELECT "+function); last != nil || text == "" {
			return false, nil
		}
		if at, last = walname.ParseLSN(text); last != nil {
			return false, last
		}
		if time.Since(told) > 5*time.Second {
			told = time.Now()
			s.say("catching up: at %s, the primary was at %s", at, is.LSN)
		}
		return at >= is.LSN, nil
	})
	if err != nil {
		return err
	}
	if !caught {
		if last == nil {
			last = fmt.Errorf("%w: it is at %s, the primary was at %s", pgserver.ErrServer, at, is.LSN)
		}
		return fmt.Errorf("the standby has not caught up within %s: %w", catchUpLimit, last)
	}
	s.line("caught up", "it has replayed %s, where the primary was", is.LSN)
	return s.streams(ctx, d, f)
}

// catchUpLimit is how long setup waits for a standby. It goes on by itself.
const catchUpLimit = 30 * time.Minute

// streamLimit is how long a standby that has caught up may take to stream: it
// asks the archive first.
const streamLimit = time.Minute

// streams waits until the standby streams from the primary.
func (s *setup) streams(ctx context.Context, d *dbServer, f *follower) error {
	if d.data.Version < 90600 {
		s.line("note", "whether it streams, pg_stat_replication on the primary tells")
		return nil
	}
	conninfo := "''"
	if d.data.Version >= 110000 {
		conninfo = "coalesce(sender_host, '') || ':' || coalesce(sender_port::text, '')"
	}
	var from string
	ok, err := wait(ctx, streamLimit, func() (bool, error) {
		rows, err := d.conn.Query(ctx, "SELECT status, "+conninfo+" FROM pg_stat_wal_receiver")
		if err != nil {
			return false, err
		}
		if i := slices.IndexFunc(rows, func(r []string) bool { return r[0] == "streaming" }); i >= 0 {
			from = rows[i][1]
			return true, nil
		}
		return false, nil
	})
	if err != nil {
		return err
	}
	if !ok {
		return transport.WithHint(fmt.Errorf("%w: the standby has caught up from the archive, but does not stream from %s", pgserver.ErrServer, f.follow.Host), "its log tells why")
	}
	if from == "" {
		from = f.follow.Host
	}
	s.line("streaming", "from %s", from)
	return nil
}
