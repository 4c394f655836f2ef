package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"walship/internal/pgserver"
	"walship/internal/stored"
	"walship/transport"
	"walship/walname"
)

// checkServer asks the server, if one is named. Its error is that of the command
// line.
func (c *checkup) checkServer(ctx context.Context) error {
	if c.data != nil {
		c.checkQueue(ctx)
	}
	params, err := serverParams(c.x)
	if err != nil {
		return err
	}
	switch {
	case params.ConnString != "":
	case c.data != nil:
		if params.ConnString, err = connStringOf(c.data); err != nil {
			c.fail("server", unknown, err)
			return nil
		}
	case os.Getenv("PGHOST") == "" && os.Getenv("PGSERVICE") == "":
		return nil
	}
	server, err := pgserver.Connect(ctx, params)
	if err != nil {
		c.fail("server", unknown, err)
		return nil
	}
	defer server.Close()
	c.server = server
	if id, err := systemID(ctx, server); err != nil {
		c.fail("server", unknown, err)
		return nil
	} else if c.cluster.SystemID != 0 && id != 0 && id != c.cluster.SystemID {
		c.say("server", critical, "it is of cluster %d, the archive's is %d", id, c.cluster.SystemID)
		return nil
	}
	a, err := server.Archiver(ctx)
	if err != nil {
		c.fail("server", unknown, err)
		return nil
	}
	if a.Standby {
		c.say("server", healthy, "PostgreSQL %s, a standby", server.ServerVersion())
		c.checkRestoreCommand(ctx)
	} else {
		c.say("server", healthy, "PostgreSQL %s", server.ServerVersion())
	}
	c.checkArchiver(ctx, a)
	if c.x.Bool("switch") && !a.Standby {
		c.checkSwitch(ctx)
	}
	return nil
}

// checkArchiver looks at what the server says of its archiving.
func (c *checkup) checkArchiver(ctx context.Context, a pgserver.Archiver) {
	p := c.paint()
	if a.Counted {
		c.figures.set("archived_total", float64(a.Archived))
		c.figures.set("failed_total", float64(a.Failed))
		c.figures.set("last_success_timestamp_seconds", stamp(a.LastArchivedTime))
	}
	c.checkLag(a)
	archives := a.Mode == "always" || a.Mode == "on" && !a.Standby
	switch {
	case a.Standby && !archives:
		c.say("archiver", healthy, "it is a standby: its primary archives")
		return
	case !archives && a.Mode != pgserver.Unknown:
		c.say("archiver", critical, "archive_mode is %s", a.Mode)
		c.hint("set archive_mode = on and archive_command = 'walship push %%p %%f', and restart the server")
		return
	case a.Command == "" && a.Library == "":
		c.say("archiver", critical, "archive_command is empty")
		c.hint("set archive_command = 'walship push %%p %%f', and reload the server")
		return
	case a.LastFailedIsLatest:
		c.say("archiver", critical, "archiving fails: %s, last at %s, %d times in all", a.LastFailed, p.time(a.LastFailedTime), a.Failed)
		wal := "pg_wal"
		if c.server.Version() < 100000 {
			wal = "pg_xlog"
		}
		c.hint("the server's log says why; to see it here, in the data directory: walship push %s/%s %s", wal, a.LastFailed, a.LastFailed)
		return
	}
	if a.LastArchived == "" {
		c.say("archiver", healthy, "it has archived nothing yet")
		return
	}
	there, err := c.holds(ctx, a.LastArchived)
	switch {
	case err != nil:
		c.fail("archiver", unknown, err)
	case !there:
		c.say("archiver", critical, "the server has archived %s, and this archive does not hold it", a.LastArchived)
		c.hint("see where archive_command leads to: walship config tells the archive that is checked here")
	case a.Command != pgserver.Unknown && a.Command != "" && !strings.Contains(a.Command, "walship"):
		c.say("archiver", warning, "archive_command is not walship's: %s", a.Command)
	default:
		c.say("archiver", healthy, "the last was %s, at %s", a.LastArchived, p.time(a.LastArchivedTime))
	}
}

// holds reports whether the archive has what the server has archived: under its
// name, set aside, or as one that has been pruned since.
func (c *checkup) holds(ctx context.Context, name string) (bool, error) {
	n, err := walname.Parse(name)
	if err != nil || c.inv == nil {
		return err == nil, nil // what has no such name is not ours to judge
	}
	for _, codec := range stored.Written() {
		_, err := c.store.Head(ctx, c.cluster.Stem(n)+codec.Extension(), 0)
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	for _, r := range c.inv.Refused {
		if strings.HasPrefix(r.Name, name+".") {
			return true, nil
		}
	}
	// The unfinished segment of a timeline that was left, before 9.5.
	if tl := c.inv.Timeline(n.Timeline()); tl != nil {
		for _, p := range tl.Partials {
			if strings.HasPrefix(p.Name, n.Segment.String()) {
				return true, nil
			}
		}
		if len(tl.Runs) > 0 && n.Kind != walname.KindHistory {
			return n.Segment.String() < tl.Runs[0].First.String(), nil
		}
	}
	return false, nil
}

// checkLag tells how far the archive is behind the server.
func (c *checkup) checkLag(a pgserver.Archiver) {
	n, err := walname.Parse(a.CurrentWAL)
	if err != nil || c.inv == nil {
		return
	}
	g := c.inv.Geometry
	tl := c.inv.Timeline(n.Timeline())
	if tl == nil || len(tl.Runs) == 0 {
		return
	}
	last := tl.Runs[len(tl.Runs)-1]
	behind := int64(g.Number(n.Segment)) - int64(g.Number(last.Last)) - 1
	behind = max(behind, 0)
	c.figures.set("lag_segments", float64(behind))
	c.figures.set("lag_bytes", float64(behind*g.SegmentSize))
	c.figures.set("lag_seconds", max(c.now.Sub(last.Stored), 0).Seconds())
	if c.data == nil && behind > 0 { // else the queue tells more
		h := healthy
		if behind >= 16 {
			h = warning
		}
		c.say("lag", h, "%d finished segments, %s, are not archived yet", behind, bytesText(behind*g.SegmentSize))
	}
}

// checkRestoreCommand looks where a standby gets its WAL. Before 12 the server
// does not tell.
func (c *checkup) checkRestoreCommand(ctx context.Context) {
	if c.server.Version() < 120000 {
		return
	}
	command, err := c.server.Value(ctx, "SHOW restore_command")
	switch {
	case err != nil:
		c.fail("restore_command", unknown, err)
	case command == "":
		c.say("restore_command", warning, "it is empty: the standby can only stream")
		c.hint("set restore_command = 'walship fetch %%f %%p'")
	case !strings.Contains(command, "walship"):
		c.say("restore_command", warning, "it is not walship's: %s", command)
	default:
		c.say("restore_command", healthy, "%s", command)
	}
}

// queue is what waits to be archived.
type queue struct {
	segments int64
	oldest   time.Time // since when; zero if nothing waits
	first    string
}

// readQueue counts the .ready files of a data directory.
func readQueue(waldir string) (q queue, err error) {
	entries, err := os.ReadDir(filepath.Join(waldir, "archive_status"))
	if err != nil {
		return q, err
	}
	for _, e := range entries {
		name, ready := strings.CutSuffix(e.Name(), ".ready")
		if !ready {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // archived since
		}
		if err != nil {
			return q, err
		}
		q.segments++
		if q.oldest.IsZero() || info.ModTime().Before(q.oldest) {
			q.oldest, q.first = info.ModTime(), name
		}
	}
	return q, nil
}

// untilFull tells when the disk of pg_wal is full if WAL goes on to come as it
// did since the first segment of the queue; false if the queue is too short to
// tell.
func (q queue) untilFull(free, segmentSize int64, now time.Time) (time.Duration, bool) {
	since := now.Sub(q.oldest)
	if q.segments < 3 || since < time.Second {
		return 0, false
	}
	rate := float64(q.segments*segmentSize) / since.Seconds()
	left := float64(free) / rate
	if left > (10 * 365 * 24 * time.Hour).Seconds() {
		return 0, false
	}
	return time.Duration(left * float64(time.Second)), true
}

// Time until the disk of pg_wal is full, below which that is worth a word.
const (
	fullSoon     = 24 * time.Hour
	fullVerySoon = 4 * time.Hour
)

// checkQueue looks at what waits in the data directory.
func (c *checkup) checkQueue(ctx context.Context) {
	q, err := readQueue(c.data.WALDir())
	if errors.Is(err, fs.ErrPermission) {
		c.fail("queue", unknown, transport.WithHint(err, "run walship check as the user that PostgreSQL runs as"))
		return
	}
	if err != nil {
		c.fail("queue", unknown, err)
		return
	}
	now := time.Now()
	waits := time.Duration(0)
	if !q.oldest.IsZero() {
		waits = max(now.Sub(q.oldest), 0)
	}
	c.figures.set("queue_segments", float64(q.segments))
	c.figures.set("queue_oldest_seconds", waits.Seconds())
	text := "nothing waits to be archived"
	if q.segments > 0 {
		text = fmt.Sprintf("%d %s to be archived, the oldest for %s: %s", q.segments, plural(q.segments, "file waits", "files wait"), ageText(waits), q.first)
	}
	h := healthy
	switch {
	case waits > 6*c.wait:
		h = critical
	case waits > c.wait:
		h = warning
	}
	room, err := transport.NewLocal(c.data.WALDir(), transport.None).Space(ctx)
	if err == nil {
		c.figures.set("pg_wal_free_bytes", float64(room.Free))
		text += fmt.Sprintf("; %s free for pg_wal", bytesText(room.Free))
		if left, ok := q.untilFull(room.Free, c.data.Control.SegmentSize, now); ok {
			c.figures.set("pg_wal_full_seconds", left.Seconds())
			text += fmt.Sprintf(", full in about %s at the present rate", ageText(left))
			switch {
			case left < fullVerySoon:
				h = critical
			case left < fullSoon && h == healthy:
				h = warning
			}
		}
	}
	c.say("queue", h, "%s", text)
	if h != healthy {
		c.hint("the server's log says why it does not archive; when the disk of pg_wal is full, the server stops")
	}
}

func plural(n int64, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// checkSwitch makes the server end its segment and waits for it in the archive.
func (c *checkup) checkSwitch(ctx context.Context) {
	if c.inv == nil {
		return // there is nowhere to look
	}
	name, err := c.switchSegment(ctx)
	if err != nil {
		c.fail("switch", unknown, err)
		return
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, min(c.wait, time.Minute))
	defer cancel()
	for {
		there, err := c.holdsSegment(ctx, name)
		switch {
		case there:
			c.say("switch", healthy, "%s was in the archive %v after it was ended", name, time.Since(began).Round(time.Millisecond))
			return
		case err != nil && ctx.Err() == nil:
			c.fail("switch", critical, err)
			return
		}
		select {
		case <-ctx.Done():
			c.say("switch", critical, "%s is not in the archive %s after it was ended", name, ageText(time.Since(began)))
			c.hint("the server's log says why")
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (c *checkup) holdsSegment(ctx context.Context, name string) (bool, error) {
	n, err := walname.Parse(name)
	if err != nil {
		return false, err
	}
	for _, codec := range stored.Written() {
		_, err := c.store.Head(ctx, c.cluster.Stem(n)+codec.Extension(), 0)
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return false, nil
}

// switchSegment ends the server's segment and returns its name. A segment that
// nothing was written to does not end: a restore point is written first.
func (c *checkup) switchSegment(ctx context.Context) (string, error) {
	if c.server.Version() >= 90100 {
		if _, err := c.server.Query(ctx, "SELECT pg_create_restore_point('walship check')"); err != nil {
			return "", err
		}
	}
	if c.server.Version() >= 100000 {
		return c.server.Value(ctx, "SELECT pg_walfile_name(pg_switch_wal())")
	}
	return c.server.Value(ctx, "SELECT pg_xlogfile_name(pg_switch_xlog())")
}
