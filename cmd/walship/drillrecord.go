package main

import (
	"context"
	"fmt"
	"time"

	"walship/archive"
	"walship/internal/config"
	"walship/internal/layout"
)

// recordTime bounds the recording of a drill.
const recordTime = time.Minute

// record leaves the outcome of a drill in the archive, for walship check to see.
// Failing to is a warning: the account of a drill may well be one that only
// reads. A drill that a signal has ended has no outcome, and one that has not
// come to choosing a backup none that speaks of the archive.
func (d *drilling) record(ctx context.Context, conf *config.Config, outcome error) {
	if d.noRecord || d.plan == nil || ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeoutCause(ctx, recordTime, fmt.Errorf("%w (%v)", errLimit, recordTime))
	defer cancel()
	text, err := d.jsonText(ctx, outcome)
	if err == nil {
		err = recordDrill(ctx, conf, layout.Cluster{SystemID: d.plan.Manifest.SystemID}, archive.Drill{Time: d.began, Passed: outcome == nil}, text)
	}
	if err != nil {
		d.warning(fmt.Sprintf("the drill is not recorded in the archive (--no-record does without): %s", oneLine(err.Error())))
	}
}

func recordDrill(ctx context.Context, conf *config.Config, c layout.Cluster, drill archive.Drill, text []byte) error {
	s, err := open(ctx, conf, silencePatient)
	if err != nil {
		return err
	}
	defer s.Close()
	return archive.RecordDrill(ctx, s, c, drill, append(text, '\n'))
}

// checkDrills looks at when a restore was last tried. Nothing is said of it where
// no drill is recorded and none is asked for.
func (c *checkup) checkDrills(ctx context.Context) {
	all, err := archive.Drills(ctx, c.store, c.cluster)
	if err != nil {
		c.fail("drill", unknown, err)
		return
	}
	var last *archive.Drill // that has passed
	for i, d := range all {
		if d.Passed {
			last = &all[i]
		}
	}
	h := healthy
	if c.drillAge > 0 && (last == nil || c.now.Sub(last.Time) > c.drillAge) {
		h = warning
	}
	switch {
	case len(all) == 0 && c.drillAge == 0:
		return
	case len(all) == 0:
		c.say("drill", h, "none is recorded in the archive")
		c.hint("walship restore --check is one, and records it; see docs/drill.md")
		return
	}
	text := "none that is recorded has passed"
	if last != nil {
		c.figures.set("last_drill_timestamp_seconds", stamp(last.Time))
		text = fmt.Sprintf("the last that has passed was %s ago", ageText(c.now.Sub(last.Time)))
	}
	if newest := all[len(all)-1]; !newest.Passed {
		text += fmt.Sprintf("; the newest, %s ago, has failed", ageText(c.now.Sub(newest.Time)))
		if c.drillAge > 0 {
			h = warning
		}
	}
	c.say("drill", h, "%s", text)
	if h != healthy {
		c.hint("walship restore --check tells whether the archive can be restored; what it printed last lies in %s/", c.cluster.Drills())
	}
}
