package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"walship/internal/basebackup"
	"walship/transport"
	"walship/walname"
)

// choice is a plan while its backup and its timeline are being chosen.
type choice struct {
	*Plan
	wal     *walArchive
	lines   *timelines
	backups []basebackup.Manifest // sorted by name
	way     way                   // to the plan's timeline
}

// choose picks the timeline, and the newest backup on the way to it that had
// ended before the target.
func (c *choice) choose(ctx context.Context) error {
	if c.Options.Timeline.Current {
		return c.chooseCurrent()
	}
	tl := c.Options.Timeline.Number
	if tl == 0 {
		tl = c.lines.latest()
	} else if !slices.Contains(c.lines.known, tl) {
		return fmt.Errorf("%w: there is no timeline %d in it; there are %s", ErrNoWay, tl, numbers(c.lines.known))
	}
	w, err := c.lines.way(tl)
	if err != nil {
		return transport.WithHint(err, c.otherTimeline(tl))
	}
	c.way, c.Plan.Timeline = w, tl
	if c.Options.Timeline == (TimelineChoice{}) {
		if err := c.unambiguous(ctx); err != nil {
			return err
		}
	}
	return c.pick(c.backups)
}

// chooseCurrent takes the newest backup, wherever it lies, and its own timeline.
func (c *choice) chooseCurrent() error {
	var best *basebackup.Manifest
	for i, m := range c.backups {
		if c.before(m) && (best == nil || m.Begin.After(best.Begin)) {
			best = &c.backups[i]
		}
	}
	if best == nil {
		return c.tooEarly(c.backups)
	}
	w, err := c.lines.way(best.Timeline)
	if err != nil {
		return err
	}
	c.way, c.Plan.Timeline = w, best.Timeline
	return c.pick([]basebackup.Manifest{*best})
}

// pick takes the newest of the backups that suits.
func (c *choice) pick(all []basebackup.Manifest) error {
	var on []basebackup.Manifest
	for _, m := range all {
		if c.way.holds(m) {
			on = append(on, m)
		}
	}
	if len(on) == 0 {
		return c.astray(all)
	}
	var best *basebackup.Manifest
	for i, m := range on {
		if c.before(m) && (best == nil || m.EndLSN > best.EndLSN || m.EndLSN == best.EndLSN && m.Begin.After(best.Begin)) {
			best = &on[i]
		}
	}
	if best == nil {
		return c.tooEarly(on)
	}
	c.Manifest = *best
	if k := c.Target.Kind; (k == AtName || k == AtXID) && c.Options.Backup == "" && len(on) > 1 {
		c.note("nobody knows in advance where a %s lies: the newest backup is taken; if the target lies before it, name an older one with --backup", map[Kind]string{AtName: "restore point", AtXID: "transaction"}[k])
	}
	return nil
}

// before reports whether the backup had ended before the target.
func (c *choice) before(m basebackup.Manifest) bool {
	switch c.Target.Kind {
	case AtTime:
		return !m.End.After(c.Target.Time)
	case AtLSN:
		return m.EndLSN <= c.Target.LSN
	}
	return true
}

// tooEarly says that the target lies before all of the backups, of which there
// is at least one.
func (c *choice) tooEarly(all []basebackup.Manifest) error {
	oldest := all[0]
	for _, m := range all[1:] {
		if m.EndLSN < oldest.EndLSN {
			oldest = m
		}
	}
	what := fmt.Sprintf("the oldest backup on the way to timeline %d, %s,", c.Plan.Timeline, oldest.Backup)
	if c.Plan.Timeline == 0 {
		what = fmt.Sprintf("the oldest backup, %s,", oldest.Backup)
	}
	if c.Options.Backup != "" {
		what = "backup " + oldest.Backup
	}
	return transport.WithHint(
		fmt.Errorf("%w: %s is before %s had ended (%s, LSN %s)", ErrNoWay, c.Target, what, oldest.End.In(c.zone()).Format(timeForm), oldest.EndLSN),
		"recovery needs a backup that ended before its target; --immediate takes a backup as it was when it ended")
}

// zone is the one in which times are told: the target's.
func (c *choice) zone() *time.Location {
	if c.Target.Kind == AtTime {
		return c.Target.Time.Location()
	}
	return time.UTC
}

// astray says that no backup lies on the way to the timeline.
func (c *choice) astray(all []basebackup.Manifest) error {
	m := all[len(all)-1]
	why := fmt.Sprintf("is of timeline %d", m.Timeline)
	if at, ok := c.way.left(m.Timeline); ok {
		why = fmt.Sprintf("ended at LSN %s of timeline %d, which the way to timeline %d leaves at %s", m.EndLSN, m.Timeline, c.Plan.Timeline, at)
	}
	if len(all) == 1 || c.Options.Backup != "" {
		return transport.WithHint(fmt.Errorf("%w: backup %s is not on the way to timeline %d: it %s", ErrNoWay, m.Backup, c.Plan.Timeline, why),
			fmt.Sprintf("--timeline %d recovers along the backup's own timeline", m.Timeline))
	}
	return transport.WithHint(fmt.Errorf("%w: none of its %d backups is on the way to timeline %d; the newest, %s, %s", ErrNoWay, len(all), c.Plan.Timeline, m.Backup, why),
		fmt.Sprintf("--timeline %d recovers along that backup's own timeline", m.Timeline))
}

// unambiguous returns an error if the target lies on another timeline too, or
// only there, and nobody has said which one is meant.
func (c *choice) unambiguous(ctx context.Context) error {
	others := c.lines.others(c.way)
	var found []walname.Timeline
	for _, tl := range slices.Sorted(maps.Keys(others)) {
		other := others[tl]
		var on bool
		var err error
		switch c.Target.Kind {
		case AtLSN:
			on, err = c.lsnOn(ctx, tl, other)
		case AtTime:
			on, err = c.timeOn(ctx, tl, other)
		case AtName, AtXID:
			if _, reached, err := c.ownTail(ctx, tl, other); err == nil && reached {
				c.note("timeline %d is looked through; timeline %d has WAL of its own: --timeline %d chooses it", c.Plan.Timeline, tl, tl)
			}
			continue
		default:
			continue
		}
		if err != nil {
			return err
		}
		if on {
			found = append(found, tl)
		}
	}
	if len(found) == 0 {
		return nil
	}
	if c.Target.Kind == AtLSN {
		n := c.Geometry.Number(c.Geometry.At(1, c.Target.LSN))
		_, own, err := c.wal.last(ctx, c.way.on(n, c.Geometry), n)
		if err != nil {
			return err
		}
		if !own {
			return transport.WithHint(
				fmt.Errorf("%w: %s lies on timeline %s, which was left at %s, and not on timeline %d", ErrNoWay, c.Target, numbers(found), fork(c.way, others[found[0]]), c.Plan.Timeline),
				fmt.Sprintf("--timeline %d goes there", found[0]))
		}
	}
	return transport.WithHint(
		fmt.Errorf("%w: %s may be on timeline %s or on timeline %d, which part at LSN %s", ErrOptions, c.Target, numbers(found), c.Plan.Timeline, fork(c.way, others[found[0]])),
		fmt.Sprintf("say which is meant: --timeline %d, or --timeline %d (the latest)", found[0], c.Plan.Timeline))
}

// ownTail is the last segment of the timeline behind its parting from the
// chosen way; false if it has none.
func (c *choice) ownTail(ctx context.Context, tl walname.Timeline, other way) (walname.Segment, bool, error) {
	at := fork(c.way, other)
	return c.wal.last(ctx, tl, c.Geometry.Number(c.Geometry.At(tl, at)))
}

// lsnOn reports whether the target's position is on the other timeline's own
// part, and archived.
func (c *choice) lsnOn(ctx context.Context, tl walname.Timeline, other way) (bool, error) {
	at := c.Target.LSN
	if parting := fork(c.way, other); at < parting || at == parting && c.Target.Exclusive || !other.has(tl, at) {
		return false, nil
	}
	_, ok, err := c.wal.last(ctx, tl, c.Geometry.Number(c.Geometry.At(tl, at)))
	return ok, err
}

// timeOn reports whether the other timeline, behind the point where it parts
// from the chosen one, was being written at the target's time or later. A target
// that surely lies before that point is on both, and the same there.
func (c *choice) timeOn(ctx context.Context, tl walname.Timeline, other way) (bool, error) {
	last, ok, err := c.ownTail(ctx, tl, other)
	if err != nil || !ok {
		return false, err
	}
	ended, err := c.wal.at(ctx, last)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if reached(ended, c.Target.Time) {
		for _, m := range c.backups {
			if c.way.holds(m) && other.holds(m) && !m.End.Before(c.Target.Time) {
				return false, nil
			}
		}
		n := c.Geometry.Number(c.Geometry.At(tl, fork(c.way, other)))
		if n == 0 {
			return true, nil
		}
		shared, err := c.wal.at(ctx, c.Geometry.FromNumber(c.way.on(n-1, c.Geometry), n-1))
		if errors.Is(err, fs.ErrNotExist) {
			return true, nil
		}
		return err == nil && shared.Before(c.Target.Time), err
	}
	return false, nil
}

// reached reports whether WAL that was archived at that time, known to the
// second, may hold the target.
func reached(archived, target time.Time) bool { return archived.Add(time.Second).After(target) }

// otherTimeline is advice for when the timeline cannot be used.
func (c *choice) otherTimeline(tl walname.Timeline) string {
	for i := len(c.lines.known) - 1; i >= 0; i-- {
		other := c.lines.known[i]
		if other >= tl {
			continue
		}
		if _, err := c.lines.way(other); err == nil {
			return fmt.Sprintf("bring the history back; --timeline %d does without that timeline", other)
		}
	}
	return "bring the history back"
}

func numbers(all []walname.Timeline) string {
	var text []string
	for _, tl := range all {
		text = append(text, fmt.Sprint(uint32(tl)))
	}
	return strings.Join(text, ", ")
}
