package pgserver

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"walship/internal/basebackup"
	"walship/transport"
)

// Methods of a base backup.
const (
	Protocol = "protocol" // BASE_BACKUP, from 9.1
	Files    = "files"    // a walk of the data directory, on the server's own machine
)

// BackupOptions say how a base backup is taken.
type BackupOptions struct {
	Params
	Label   string       // of the backup, one line; "" is walship's own
	Fast    bool         // ask for an immediate checkpoint instead of waiting for a spread one
	MaxRate int          // kB/s, 0 is as fast as it goes
	Method  string       // Protocol, Files or "": Protocol, on 9.0 Files
	DataDir string       // for Files: the data directory on this machine; "" is where the server says it is
	Warn    func(string) // is told what does not keep the backup from succeeding; may be nil

	exclusive bool // Files: the way of 9.0 to 9.5 up to 14, for tests
	recheck   bool // Protocol: verify checksums here although the server does, for tests
}

// DefaultLabel is the label of a backup that was given none.
const DefaultLabel = "walship"

// StartBackup begins a base backup; it returns once the server's checkpoint is
// through, which can take minutes unless Fast is set. The source holds the
// connections that it works with until Finish or Close, and is of no use once
// ctx is done. Whatever ends it early, kill -9 of this process included, leaves
// no backup mode behind, but for Files before 9.6, where only Close can end it.
//
// Errors wrap ErrServer, ErrChecksum or ErrLocal, or are ctx's. A damaged page
// ends the backup: at the end of the file that holds it, or with Finish if it is
// the server that verifies (from 11 on, with Protocol).
func StartBackup(ctx context.Context, o BackupOptions) (basebackup.Source, error) {
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	if o.Label == "" {
		o.Label = DefaultLabel
	}
	if strings.ContainsAny(o.Label, "\n\r\x00") || len(o.Label) > 1000 {
		return nil, fmt.Errorf("%w: label %q is not one line of at most 1000 bytes", ErrServer, o.Label)
	}
	config, err := o.config()
	if err != nil {
		return nil, err
	}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		notice(o.Warn, n.Severity, n.SeverityUnlocalized, n.Message)
	}
	sql, err := connect(ctx, config)
	if err != nil {
		return nil, err
	}
	s, err := start(ctx, o, sql)
	if err != nil {
		_ = sql.Close()
		return nil, err
	}
	return s, nil
}

func start(ctx context.Context, o BackupOptions, sql *Conn) (basebackup.Source, error) {
	switch {
	case o.Method == "" && sql.version < version91:
		o.Method = Files
	case o.Method == "":
		o.Method = Protocol
	case o.Method == Protocol && sql.version < version91:
		return nil, transport.WithHint(sql.to.fail("PostgreSQL %s has no base backups over the replication protocol", sql.version), "use the method files, on the server's machine")
	}
	if err := inPlace(ctx, o, sql); err != nil {
		return nil, err
	}
	b, err := facts(ctx, o, sql)
	if err != nil {
		return nil, err
	}
	switch o.Method {
	case Protocol:
		return startProtocol(ctx, o, b)
	case Files:
		return startFiles(ctx, o, b)
	}
	return nil, fmt.Errorf("%w: there is no method %q", ErrServer, o.Method)
}

// common is what both methods know and share.
type common struct {
	sql      *Conn
	info     basebackup.Info
	warn     func(string)
	clock    time.Duration // the server's clock is that much ahead of this one's
	block    int64         // bytes in a page of data
	relation int64         // pages in a file of a relation
}

// facts asks the server what it is.
func facts(ctx context.Context, o BackupOptions, sql *Conn) (*common, error) {
	b := &common{sql: sql, warn: o.Warn}
	b.info = basebackup.Info{
		PostgreSQL:    sql.version.String(),
		ServerVersion: sql.ServerVersion(),
		SkipFF:        sql.version < version93,
		Method:        o.Method,
		Label:         o.Label,
	}
	began := time.Now()
	row, err := sql.Row(ctx, "SELECT "+sql.epoch("clock_timestamp()")+", pg_is_in_recovery(), current_setting('block_size'), "+
		"(SELECT setting FROM pg_settings WHERE name = 'segment_size')")
	if err != nil {
		return nil, err
	}
	if b.info.Begin, err = instant(row[0]); err != nil {
		return nil, sql.to.fail("%v", err)
	}
	b.clock = b.info.Begin.Sub(began)
	b.info.Standby = row[1] == "t"
	b.block, b.relation = count(row[2]), count(row[3])
	if b.block < 1<<10 || b.block > 1<<16 || b.relation <= 0 {
		return nil, sql.to.fail("it has pages of %s bytes and relations of %s pages a file", row[2], row[3])
	}
	segment, err := sql.Value(ctx, "SHOW wal_segment_size")
	if err != nil {
		return nil, err
	}
	if b.info.SegmentSize, err = quantity(segment); err != nil {
		return nil, sql.to.fail("wal_segment_size: %v", err)
	}
	if sql.version >= version93 {
		on, err := sql.Value(ctx, "SHOW data_checksums")
		if err != nil {
			return nil, err
		}
		b.info.Checksums = on == "on"
	}
	if sql.version >= version96 {
		id, err := sql.Value(ctx, "SELECT system_identifier FROM pg_control_system()")
		if err != nil {
			return nil, err
		}
		n, err := strconv.ParseInt(id, 10, 64)
		if err != nil {
			return nil, sql.to.fail("system identifier %q", id)
		}
		b.info.SystemID = uint64(n)
	}
	return b, nil
}

// now is the server's clock: the server is asked if it still can be.
func (b *common) now(ctx context.Context) time.Time {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if text, err := b.sql.Value(ctx, "SELECT "+b.sql.epoch("clock_timestamp()")); err == nil {
		if t, err := instant(text); err == nil && !t.IsZero() {
			return t
		}
	}
	return time.Now().Add(b.clock).UTC()
}

// sameTimeline refuses a backup under which the timeline has changed: the server
// was a standby, and was promoted or followed another one.
func (b *common) sameTimeline(end basebackup.End) error {
	if end.Timeline == b.info.Timeline {
		return nil
	}
	return transport.WithHint(b.sql.to.fail("it went over from timeline %d to %d while the backup was taken", b.info.Timeline, end.Timeline),
		"the copy is not usable: run the backup again")
}

// verifies reports whether pages are to be verified here: the server does it
// itself only with BASE_BACKUP, and from 11 on.
func (b *common) verifies(o BackupOptions) bool {
	return b.info.Checksums && (o.recheck || o.Method == Files || b.sql.version < version11)
}

// errClosed is what a source returns after Close.
var errClosed = errors.New("the backup is closed")

// inPlace refuses what BASE_BACKUP leaves out without a word: tablespaces inside
// the data directory, which allow_in_place_tablespaces makes possible from 15 on.
func inPlace(ctx context.Context, o BackupOptions, sql *Conn) error {
	if o.Method != Protocol || sql.version < version15 {
		return nil
	}
	rows, err := sql.Query(ctx, `SELECT spcname FROM pg_tablespace WHERE pg_tablespace_location(oid) NOT LIKE '/%' AND pg_tablespace_location(oid) <> ''`)
	if err != nil || len(rows) == 0 {
		return err
	}
	return transport.WithHint(sql.to.fail("tablespace %s lies inside the data directory, and the replication protocol leaves it out", rows[0][0]),
		"use --method files, on the server's machine")
}
