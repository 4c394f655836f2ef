package pgserver

import (
	"context"
	"time"
)

// Unknown is the value of a setting that the role may not see.
const Unknown = "unknown"

// Archiver is what the server says of its archiving.
type Archiver struct {
	Mode     string // archive_mode: on, off, always; Unknown
	Command  string // archive_command, "" if there is none; Unknown
	Library  string // archive_library, from 15; Unknown
	WALLevel string // wal_level; Unknown
	Standby  bool   // the server is in recovery

	// Counted is false before 9.4, where there is no pg_stat_archiver: all below is
	// then zero. So is a time at which nothing has happened yet.
	Counted            bool
	Archived, Failed   int64 // how often, since StatsReset
	LastArchived       string
	LastArchivedTime   time.Time
	LastFailed         string
	LastFailedTime     time.Time
	StatsReset         time.Time
	Now                time.Time // by the server's clock
	CurrentWAL         string    // segment that the server writes; "" on a standby
	LastFailedIsLatest bool      // the latest attempt failed
}

// Archiver asks for it.
func (c *Conn) Archiver(ctx context.Context) (Archiver, error) {
	a := Archiver{Mode: Unknown, Command: Unknown, Library: Unknown, WALLevel: Unknown}
	rows, err := c.Query(ctx, `SELECT name, setting FROM pg_settings WHERE name IN ('archive_mode', 'archive_command', 'archive_library', 'wal_level')`)
	if err != nil {
		return Archiver{}, err
	}
	if c.version < version15 {
		a.Library = ""
	}
	for _, row := range rows {
		value := row[1]
		if value == Null { // before 10 a role that may not see it gets no row
			value = Unknown
		}
		switch row[0] {
		case "archive_mode":
			a.Mode = value
		case "archive_command":
			if a.Command = value; value == "(disabled)" { // how it is shown while archive_mode is off
				a.Command = ""
			}
		case "archive_library":
			a.Library = value
		case "wal_level":
			a.WALLevel = value
		}
	}
	row, err := c.Row(ctx, `SELECT pg_is_in_recovery(), `+c.epoch("clock_timestamp()"))
	if err != nil {
		return Archiver{}, err
	}
	a.Standby = row[0] == "t"
	if a.Now, err = instant(row[1]); err != nil {
		return Archiver{}, c.to.fail("%v", err)
	}
	if !a.Standby {
		if a.CurrentWAL, err = c.Value(ctx, "SELECT "+c.walFunctions("pg_xlogfile_name(pg_current_xlog_location())", "pg_walfile_name(pg_current_wal_lsn())")); err != nil {
			return Archiver{}, err
		}
	}
	if c.version < version94 {
		return a, nil
	}
	row, err = c.Row(ctx, `SELECT archived_count, last_archived_wal, `+c.epoch("last_archived_time")+`,
		failed_count, last_failed_wal, `+c.epoch("last_failed_time")+`, `+c.epoch("stats_reset")+` FROM pg_stat_archiver`)
	if err != nil {
		return Archiver{}, err
	}
	a.Counted = true
	a.Archived, a.Failed = count(row[0]), count(row[3])
	a.LastArchived, a.LastFailed = plain(row[1]), plain(row[4])
	for i, at := range map[int]*time.Time{2: &a.LastArchivedTime, 5: &a.LastFailedTime, 6: &a.StatsReset} {
		if *at, err = instant(row[i]); err != nil {
			return Archiver{}, c.to.fail("%v", err)
		}
	}
	a.LastFailedIsLatest = a.LastFailedTime.After(a.LastArchivedTime)
	return a, nil
}

// walFunctions chooses between the names before 10 and since.
func (c *Conn) walFunctions(old, new string) string {
	if c.version < version10 {
		return old
	}
	return new
}
