package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"walship/transport"
	"walship/walname"
)

// maxScan bounds the segments of one recovery: a petabyte of them.
const maxScan = 1 << 26

// checkWAL looks whether every segment is there that recovery will ask for.
func (c *choice) checkWAL(ctx context.Context) error {
	g, m := c.Geometry, c.Manifest
	number := func(at walname.LSN) uint64 { return g.Number(g.At(1, at)) }
	first := number(m.StartLSN)
	consistent := max(first, number(max(m.EndLSN, 1)-1))
	c.First = g.FromNumber(c.way.on(first, g), first)

	end := consistent
	switch c.Target.Kind {
	case Immediate:
	case AtLSN:
		end = max(end, number(c.Target.LSN))
	default:
		// All that there is, and at least the first segment of each timeline.
		for _, l := range c.way[:len(c.way)-1] {
			end = max(end, number(l.End))
		}
		newest, ok, err := c.wal.last(ctx, c.way.newest(), 0)
		if err != nil {
			return err
		}
		if ok {
			end = max(end, g.Number(newest))
		}
	}
	if end-first > maxScan {
		return fmt.Errorf("%w: from backup %s to the newest segment there would be %d of them", ErrArchive, m.Backup, end-first+1)
	}
	var stop func(walname.Segment) (bool, error)
	if c.Target.Kind == AtTime {
		stop = func(before walname.Segment) (bool, error) {
			if before == (walname.Segment{}) || g.Number(before) < consistent {
				return false, nil
			}
			at, err := c.wal.at(ctx, before)
			if errors.Is(err, fs.ErrNotExist) {
				return false, nil
			}
			return err == nil && at.After(c.Target.Time), err
		}
	}
	s, err := c.wal.scan(ctx, c.way, first, end, stop)
	if err != nil {
		return err
	}
	c.Segments, c.Last, c.Missing = s.present, s.last, s.missing
	if s.lost == 0 && c.Target.Kind == AtTime {
		return c.reaches(ctx)
	}
	if s.lost == 0 {
		return nil
	}
	err = c.lacking(ctx, s, consistent, end)
	if c.MissingWALOK {
		c.note("%v", err)
		return nil
	}
	return err
}

// reaches checks that WAL was archived after the target's time.
func (c *choice) reaches(ctx context.Context) error {
	at, err := c.wal.at(ctx, c.Last)
	if err != nil || reached(at, c.Target.Time) {
		return err
	}
	err = transport.WithHint(
		fmt.Errorf("%w: %s is after the end of the archived WAL: the last segment, %s, was archived at %s", ErrNoWay, c.Target, c.Last, at.In(c.zone()).Format(timeForm)),
		"--latest recovers all that there is; on a running primary, select pg_switch_wal() has the current segment archived")
	if c.MissingWALOK {
		c.note("%v; from 13 on a server that has not come to its target stops with an error, before it opens", err)
		return nil
	}
	return err
}

// lacking words what is missing.
func (c *choice) lacking(ctx context.Context, s scan, consistent, end uint64) error {
	g := c.Geometry
	tail := s.missing[len(s.missing)-1]
	if newest, ok, err := c.wal.last(ctx, c.way.newest(), 0); c.Target.Kind == AtLSN && err == nil && len(s.missing) == 1 &&
		g.Number(tail.Last) == end && g.Number(tail.First) > consistent && (!ok || g.Number(newest) < g.Number(tail.First)) {
		return transport.WithHint(
			fmt.Errorf("%w: %s is beyond the archived WAL, which ends with segment %s", ErrNoWay, c.Target, s.last),
			"--latest recovers all that there is")
	}
	var runs []string
	for _, r := range s.missing {
		runs = append(runs, r.String())
	}
	what := "segment is"
	if s.lost > 1 {
		what = "segments are"
	}
	hint := "bring them back into the archive, or recover to a target before them"
	if g.Number(s.missing[0].First) > consistent {
		hint += "; --missing-wal-ok goes on without, and recovery ends in front of the first one at the latest"
	} else {
		hint += "; without them this backup cannot become consistent"
		if len(c.backups) > 1 {
			hint += ", take another one with --backup"
		}
	}
	if tl := tail.First.Timeline; tl == c.way.newest() && s.last.Timeline != tl {
		hint += fmt.Sprintf("; if timeline %d is not meant: --timeline %d", tl, s.last.Timeline)
	}
	return transport.WithHint(fmt.Errorf("%w: %d %s missing between backup %s and the target: %s", ErrNoWay, s.lost, what, c.Manifest.Backup, strings.TrimSpace(joinSome(runs))), hint)
}
