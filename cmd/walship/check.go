package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"walship/archive"
	"walship/internal/config"
	"walship/internal/layout"
	"walship/internal/pgdata"
	"walship/internal/pgserver"
	"walship/transport"
)

func (p *program) checkCommand() *cli.Command {
	return &cli.Command{
		Name:  "check",
		Usage: "see whether archiving works, for people and for monitoring",
		Description: "Looks at everything from the server's archiver to what the archive holds, and\n" +
			"stores, reads back and removes a small file there. The first line of the\n" +
			"output sums it up, with figures behind a |; the exit code is the one that\n" +
			"monitoring plugins use:\n\n" +
			"  0 OK    1 WARNING    2 CRITICAL    3 UNKNOWN: it could not be found out\n\n" +
			"With -D, PGDATA or in the data directory the server is looked at too; it may\n" +
			"be on another machine, with --host and its like. Run it as PostgreSQL's user.",
		Flags: append(append(append(common(), dataFlag(), clusterFlag()), serverFlags()...),
			&cli.BoolFlag{Name: "archive-only", Usage: "do not ask the server"},
			&cli.BoolFlag{Name: "switch", Usage: "make the server end its segment, and wait until that one is in the archive"},
			&cli.StringFlag{Name: "max-wait", Usage: "how long a segment may wait to be archived before that is a WARNING; six times as long is CRITICAL; default 10m"},
			&cli.StringFlag{Name: "max-backup-age", Usage: "how old the newest base backup may be before that is a WARNING, or off; default 8d"},
			&cli.StringFlag{Name: "max-drill-age", Usage: "how old the last drill that has passed may be before that is a WARNING, as 8d; off unless given"},
			&cli.StringFlag{Name: "min-free", Usage: "how much of the archive's disk has to be free, or that is a WARNING; a third of it is CRITICAL; default 10%"},
			&cli.StringFlag{Name: "metrics", Usage: "write the figures to this file too, in Prometheus' text format, for a textfile collector"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON, see docs/check.md"}),
		Action: p.check,
	}
}

// health is how well something is. The numbers are those of monitoring plugins.
type health int

const (
	healthy health = iota
	warning
	critical
	unknown
)

func (h health) String() string { return [...]string{"OK", "WARNING", "CRITICAL", "UNKNOWN"}[h] }

// worse puts what is known to be bad before what is not known.
func (h health) worse(other health) bool {
	rank := [...]int{healthy: 0, warning: 1, unknown: 2, critical: 3}
	return rank[h] > rank[other]
}

// finding is what one check has found.
type finding struct {
	name   string
	health health
	text   string
	hint   string
}

// verdict is the outcome of a check that was carried out. Its report has been
// written.
type verdict struct{ health health }

func (v verdict) Error() string { return v.health.String() }

// checkCode is the exit code of check.
func checkCode(err error) int {
	var v verdict
	switch {
	case err == nil:
		return int(healthy)
	case errors.As(err, &v):
		return int(v.health)
	}
	return int(unknown)
}

// limits are when something is worth a word.
type limits struct {
	wait      time.Duration
	backupAge time.Duration // 0: it does not matter
	drillAge  time.Duration // 0: it does not matter
	free      float64       // share of the disk
}

func readLimits(x *cli.Context) (l limits, err error) {
	l = limits{wait: 10 * time.Minute, backupAge: 8 * 24 * time.Hour, free: 0.10}
	if text := x.String("max-wait"); x.IsSet("max-wait") {
		if l.wait, err = config.ParseDuration(text); err != nil || l.wait <= 0 {
			return l, usage("--max-wait %q is not a length of time, as 10m", text)
		}
	}
	if text := x.String("max-backup-age"); text == "off" {
		l.backupAge = 0
	} else if x.IsSet("max-backup-age") {
		if l.backupAge, err = config.ParseDuration(text); err != nil || l.backupAge <= 0 {
			return l, usage("--max-backup-age %q is neither a length of time, as 8d, nor off", text)
		}
	}
	if text := x.String("max-drill-age"); x.IsSet("max-drill-age") && text != "off" {
		if l.drillAge, err = config.ParseDuration(text); err != nil || l.drillAge <= 0 {
			return l, usage("--max-drill-age %q is neither a length of time, as 8d, nor off", text)
		}
	}
	if text := x.String("min-free"); x.IsSet("min-free") {
		n, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
		if err != nil || n < 0 || n >= 100 {
			return l, usage("--min-free %q is not a percentage, as 10%%", text)
		}
		l.free = n / 100
	}
	return l, nil
}

// checkup is one run of check.
type checkup struct {
	*program
	limits
	x        *cli.Context
	conf     *config.Config
	store    store
	data     *pgdata.Dir // nil: not on this machine, or not asked for
	cluster  layout.Cluster
	inv      *archive.Inventory // nil: the archive could not be looked at
	now      time.Time          // by the archive's clock; ours, as long as that is not known
	newest   []archive.StoredFile
	server   *pgserver.Conn // nil: not asked
	findings []finding
	figures  figures
}

func (c *checkup) say(name string, h health, format string, args ...any) {
	c.findings = append(c.findings, finding{name: name, health: h, text: oneLine(fmt.Sprintf(format, args...))})
}

// fail is say for an error, with the advice that comes with it.
func (c *checkup) fail(name string, h health, err error) {
	c.findings = append(c.findings, finding{name, h, oneLine(err.Error()), oneLine(advice(err))})
}

// hint adds advice to the last finding.
func (c *checkup) hint(format string, args ...any) {
	c.findings[len(c.findings)-1].hint = oneLine(fmt.Sprintf(format, args...))
}

func (p *program) check(x *cli.Context) error {
	if _, err := arguments(x); err != nil {
		return err
	}
	c := &checkup{program: p, x: x, now: time.Now(), figures: figures{}}
	var err error
	if c.limits, err = readLimits(x); err != nil {
		return err
	}
	if err := c.run(); err != nil {
		return err
	}
	return c.report()
}

// run makes all checks. Its errors are those of the command line.
func (c *checkup) run() error {
	conf, err := load(c.x)
	if err == nil {
		err = conf.RequireArchive()
	}
	if err != nil {
		c.fail("config", unknown, err)
		return nil
	}
	c.conf = conf
	ctx, cancel := c.limited(c.x.Context, conf)
	defer cancel()
	if c.data, err = dataOf(c.x); err != nil {
		c.fail("data directory", unknown, err)
	}
	if c.data != nil {
		c.cluster = layout.Cluster{SystemID: c.data.Control.SystemID}
	}
	if c.store, err = open(ctx, conf, silencePatient); err != nil {
		c.fail("archive", critical, err)
		return nil
	}
	defer c.store.Close()

	c.checkAgent(ctx)
	reachable, err := c.choose(ctx)
	if err != nil {
		return err
	}
	if reachable && c.checkWrite(ctx) {
		c.checkClock(ctx)
	}
	if reachable {
		c.checkSpace(ctx)
		c.look(ctx)
	}
	if !c.x.Bool("archive-only") {
		if err := c.checkServer(ctx); err != nil {
			return err
		}
	}
	return nil
}

// choose finds the cluster and checks that the archive is there and its own.
func (c *checkup) choose(ctx context.Context) (reachable bool, err error) {
	chosen, err := chooseClusters(ctx, c.x, c.store)
	switch {
	case errors.Is(err, errUsage):
		return false, err
	case err != nil:
		c.fail("archive", critical, err)
		return false, nil
	case len(chosen.list) > 1:
		c.say("archive", unknown, "it holds %d clusters", len(chosen.list))
		c.hint("%s, or name the data directory with -D", heldClusters(chosen.root))
		return false, nil
	case len(chosen.list) == 0:
		c.say("archive", unknown, "it holds only WAL that another tool has left")
		c.hint("walship init, in the data directory, makes an archive of its own beside it")
		return false, nil
	}
	c.cluster = chosen.list[0]
	return true, nil
}

// checkWrite stores a file as push does, reads it back and removes it.
func (c *checkup) checkWrite(ctx context.Context) (written bool) {
	name := path.Join(c.cluster.Tmp(), probeName())
	text := []byte("walship check\n")
	began := time.Now()
	err := c.store.Put(ctx, name, contentOf(text))
	if err != nil {
		if hint := transport.Hint(err); hint == "" {
			err = transport.WithHint(err, advice(err))
		}
		c.fail("write", critical, err)
		return false
	}
	took := time.Since(began)
	head, err := c.store.Head(ctx, name, 100)
	if err == nil && string(head.Data) != string(text) {
		err = fmt.Errorf("%s holds something else than was stored", name)
	}
	if err != nil {
		c.fail("write", critical, err)
	}
	if gone := c.store.Remove(ctx, name); gone != nil && err == nil {
		c.fail("write", critical, gone)
		err = gone
	}
	if err != nil {
		return false
	}
	how := map[string]string{
		"full": "on stable storage with its folder entry",
		"file": "on stable storage, its folder entry not: durability = \"file\"",
		"none": "but perhaps not on stable storage: durability = \"none\"",
	}[c.conf.Durability]
	h := healthy
	if c.conf.Durability == "none" {
		h = warning
	}
	c.say("write", h, "a file was stored in %v, %s", took.Round(time.Millisecond), how)
	return true
}

// maxSkew is how far two clocks may be apart before that is worth a word.
const maxSkew = time.Minute

// checkClock compares the archive's clock with this machine's.
func (c *checkup) checkClock(ctx context.Context) {
	before := time.Now()
	there, err := c.store.Now(ctx, c.cluster.Tmp())
	after := time.Now()
	if err != nil {
		c.fail("clock", unknown, err)
		return
	}
	c.now = there.Add(time.Since(after))
	var skew time.Duration
	switch {
	case there.Before(before.Add(-time.Second)):
		skew = there.Sub(before)
	case there.After(after.Add(time.Second)):
		skew = there.Sub(after)
	}
	skew = skew.Round(time.Second)
	c.figures.set("clock_skew_seconds", skew.Seconds())
	if skew.Abs() > maxSkew {
		c.say("clock", warning, "the archive's clock is %s %s this machine's", skew.Abs(), aheadOf(skew))
		c.hint("let both run NTP: by those clocks files are dated and the age of what is left over is told")
		return
	}
	c.say("clock", healthy, "the archive's clock agrees with this machine's")
}

func aheadOf(skew time.Duration) string {
	if skew < 0 {
		return "behind"
	}
	return "ahead of"
}

// checkSpace looks at the archive's disk.
func (c *checkup) checkSpace(ctx context.Context) {
	room, err := c.store.Space(ctx)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		c.say("disk", healthy, "the archive's server does not tell how full its disk is")
		return
	case err != nil:
		c.fail("disk", unknown, err)
		return
	}
	c.figures.set("archive_free_bytes", float64(room.Free))
	c.figures.set("archive_size_bytes", float64(room.Total))
	share := float64(room.Free) / float64(max(room.Total, 1))
	h := healthy
	switch {
	case room.ReadOnly || share < c.free/3:
		h = critical
	case share < c.free:
		h = warning
	}
	text := fmt.Sprintf("%s of %s are free on the archive's disk (%.0f%%)", bytesText(room.Free), bytesText(room.Total), 100*share)
	if room.ReadOnly {
		text = "the archive's disk is read-only"
	}
	c.say("disk", h, "%s", text)
	if h != healthy {
		c.hint("walship list --wal-per day tells how much WAL comes in; nothing goes from the archive by itself")
	}
}
