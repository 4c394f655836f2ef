package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"time"

	"walship/internal/basebackup"
	"walship/internal/stored"
	"walship/transport"
	"walship/walname"
)

// Plan is what a Pruner would remove, and why it would leave the rest.
type Plan struct {
	Rules Rules
	Held  []Held // the backups of the archive, the oldest first

	HasCut bool            // false: no WAL may go
	Cut    walname.Segment // before it, on all timelines, WAL goes; its timeline is that of what needs it
	CutLSN walname.LSN     // where the cut begins
	CutWhy string          // what keeps WAL from there on

	Files     int64       // WAL files that go, with what belongs to them
	Bytes     int64       // of them, stored
	Abandoned []Abandoned // what backups that have died have left behind
	Temporary int64       // temporary files older than a day

	held     []*Held
	now      time.Time // by the archive's clock
	cut      uint64
	geometry walname.Geometry
	logs     []string // folders of WAL that hold something before the cut, the oldest first
}

// Held is a backup that the archive knows: one that is stored in it, or one that
// lies elsewhere and has left its label.
type Held struct {
	Name     string // its folder's, or its label's
	Stored   bool   // in the archive
	Timeline walname.Timeline
	Start    walname.LSN // from which recovery reads WAL
	End      walname.LSN // which it must reach; 0 if that is not known
	Time     time.Time   // when it was stored, by the archive's clock
	Files    int64       // of a stored one
	Size     int64       // of them, bytes

	Keep       bool
	Why        string // why it is kept although no rule asks for it, "" otherwise
	Unfinished bool   // it is in progress, or not all WAL up to its end is archived yet: it is kept and does not count

	id       basebackup.ID
	manifest bool
	labels   []Stray         // stored files, named from the root of the archive
	hole     walname.Segment // missing, so that the backup cannot be restored; zero if nothing is
}

// Abandoned is the folder of a backup that has died.
type Abandoned struct {
	Name  string
	Files int64
	Size  int64 // bytes
}

// Expired are the backups that go, the oldest first.
func (p *Plan) Expired() []*Held {
	var gone []*Held
	for _, h := range p.held {
		if !h.Keep {
			gone = append(gone, h)
		}
	}
	return gone
}

// Empty reports whether nothing would be removed.
func (p *Plan) Empty() bool {
	return len(p.Expired()) == 0 && p.Files == 0 && len(p.Abandoned) == 0 && p.Temporary == 0
}

// Plan looks at the archive and decides what may go. It changes nothing, but
// for a file that it makes and removes to learn the archive's time. Where the
// archive is not clear enough to tell what a backup needs, the error wraps
// ErrRefused, or stored.ErrDamaged.
func (p *Pruner) Plan(ctx context.Context, rules Rules) (*Plan, error) {
	logs := make(map[string]*logSum) // folders of WAL; of each, how many files and bytes
	inv, err := Take(ctx, p.Store, p.Cluster, Look{Each: func(f StoredFile) error {
		if f.Name.Kind == walname.KindHistory {
			return nil
		}
		dir := path.Dir(f.Stored)
		if logs[dir] == nil {
			logs[dir] = &logSum{}
		}
		logs[dir].files++
		logs[dir].bytes += f.Size
		return nil
	}})
	if err != nil {
		return nil, err
	}
	now, err := p.Store.Now(ctx, p.Cluster.Tmp())
	if err != nil {
		return nil, err
	}
	plan := &Plan{Rules: rules, geometry: inv.Geometry, now: now}
	d := &decision{Plan: plan, inv: inv}
	if err := d.clear(); err != nil {
		return nil, err
	}
	for _, step := range []func() error{
		func() error { return d.stored() },
		func() error { return d.unlisted(ctx, p.Store) },
		func() error { return d.labels(ctx, p.Store) },
		d.finished, d.expire, d.newest, d.holes, d.decideCut,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	for _, h := range plan.held {
		plan.Held = append(plan.Held, *h)
	}
	if err := p.count(ctx, plan, now, stored.Codec(inv.Identity.Codec), logs); err != nil {
		return nil, err
	}
	return plan, nil
}

// logSum is what a folder of WAL holds.
type logSum struct{ files, bytes int64 }

// count finds out what lies before the cut, and in tmp/.
func (p *Pruner) count(ctx context.Context, plan *Plan, now time.Time, codec stored.Codec, logs map[string]*logSum) error {
	err := p.Store.List(ctx, p.Cluster.Tmp(), func(e transport.FileInfo) error {
		if !e.IsDir && now.Sub(e.ModTime) > sweepAge {
			plan.Temporary++
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) || !plan.HasCut {
		return err
	}
	var look []string // folders that have to be looked into
	err = p.Store.List(ctx, p.Cluster.WAL(), func(e transport.FileInfo) error {
		log, ok := logFolder(e)
		dir := path.Join(p.Cluster.WAL(), e.Name)
		switch sum := logs[dir]; {
		case !ok:
		case plan.wholly(log) && sum != nil && codec != stored.Plain: // it has no vouchers
			plan.Files += sum.files
			plan.Bytes += sum.bytes
			plan.logs = append(plan.logs, dir)
		case plan.wholly(log), log.Log == plan.Cut.Log:
			look = append(look, dir)
		}
		return nil
	})
	if err == nil {
		err = listInOrder(ctx, p.Store, look, func(dir string, entries []transport.FileInfo) error {
			some := false
			for _, e := range entries {
				if !e.IsDir && plan.goes(dir, e) {
					plan.Files++
					plan.Bytes += e.Size
					some = true
				}
			}
			if log, _ := logFolder(transport.FileInfo{Name: path.Base(dir), IsDir: true}); some || plan.wholly(log) {
				plan.logs = append(plan.logs, dir)
			}
			return nil
		})
	}
	sortLogs(plan.logs)
	return err
}

// decision is a Plan that is being made.
type decision struct {
	*Plan
	inv *Inventory
}

func refusal(hint, format string, args ...any) error {
	return transport.WithHint(fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...)), hint)
}

// whole is nil if nothing in the folder of a backup that has a manifest is
// against it.
func whole(b Backup) error {
	if b.Usable() {
		return nil
	}
	why := b.Damage
	if why == "" {
		why = "its manifest is gone"
	}
	return transport.WithHint(fmt.Errorf("%w: backup %s: %s; nothing is removed as long as it is not known what it needs", stored.ErrDamaged, b.ID, why),
		"walship verify tells more; a backup that is given up ceases to count when its "+basebackup.ManifestFile+" is removed")
}

// clear refuses an archive that cannot be read well enough.
func (d *decision) clear() error {
	for _, b := range d.inv.Backups {
		if b.Manifest != nil || b.Damage != "" {
			if err := whole(b); err != nil {
				return err
			}
		}
	}
	for _, b := range d.inv.Broken {
		if path.Dir(b.Name) == d.inv.Cluster.Histories() {
			return transport.WithHint(fmt.Errorf("%w: %s: %s; without it the timelines are not clear, and nothing is removed", stored.ErrDamaged, b.Name, b.Why),
				"if a server still has the file, move the damaged one out of the way and push it again")
		}
	}
	if d.Rules.KeepFrom != nil {
		return d.Rules.KeepFrom.check(d.inv)
	}
	return nil
}

// expire applies the rules to the backups that are whole.
func (d *decision) expire() error {
	var all, stored []*Held
	for _, h := range d.held {
		h.Keep = true
		if !h.Unfinished {
			all = append(all, h)
			if h.Stored {
				stored = append(stored, h)
			}
		}
	}
	if !d.Rules.expiring() {
		return nil
	}
	if len(all) == 0 && d.Rules.KeepFrom != nil {
		return nil // which says itself from where WAL is needed
	}
	if len(all) == 0 {
		return refusal("take a backup first (walship backup), or say yourself from where WAL is needed: --keep-from",
			"there is no whole base backup in the archive, so all of its WAL may be needed")
	}
	for i, h := range all {
		h.Keep = d.wanted(h, len(all)-1-i, rank(stored, h))
	}
	// A label tells of a backup that nobody here can see.
	kept := func(h *Held) bool { return h.Keep }
	last := all[len(all)-1]
	if len(stored) > 0 {
		last = stored[len(stored)-1]
	}
	if !slices.ContainsFunc(all, kept) || len(stored) > 0 && !slices.ContainsFunc(stored, kept) {
		last.Keep, last.Why = true, "the newest one always stays"
	}
	return nil
}

// holes refuses to count a backup that cannot be restored as one that is kept,
// in whose stead others would expire.
func (d *decision) holes() error {
	for _, h := range d.held {
		if h.Keep && h.hole != (walname.Segment{}) && d.Rules.expiring() {
			what := "label"
			if h.Stored {
				what = basebackup.ManifestFile
			}
			return refusal("a backup that is given up ceases to count when its "+what+" is removed; walship list shows all gaps",
				"backup %s would be kept, but it cannot be restored, as %s is missing: which others may go is not clear", h.Name, h.hole)
		}
	}
	return nil
}

// rank counts the backups behind h in list, which is in order.
func rank(list []*Held, h *Held) int {
	for i, other := range list {
		if other == h {
			return len(list) - 1 - i
		}
	}
	return len(list)
}

// wanted reports whether any rule keeps the backup. behind counts the newer ones
// of all kinds, storedBehind those that are stored: a label takes no stored
// backup's place.
func (d *decision) wanted(h *Held, behind, storedBehind int) bool {
	r := d.Rules
	if r.KeepBackups > 0 {
		if h.Stored {
			behind = storedBehind
		}
		if behind < r.KeepBackups {
			return true
		}
	}
	if r.OlderThan > 0 && (h.Time.IsZero() || d.now.Sub(h.Time) <= r.OlderThan) {
		return true
	}
	if k := r.KeepFrom; k != nil && k.label {
		return h.Stored || h.Start >= d.geometry.Start(k.segment)+k.lsn
	}
	return false
}

// newest keeps the newest timeline restorable: after a recovery to a point in
// the past the newest backups may be those of the timeline that was given up. One
// that has only its history yet may be the one that lives, and the newest that has
// WAL another's leftover, or the reverse: both are kept.
func (d *decision) newest() error {
	for _, tl := range slices.Backward(d.inv.Timelines) {
		if len(d.Expired()) == 0 {
			return nil
		}
		if err := d.restorable(tl); err != nil {
			return err
		}
		if len(tl.Runs) > 0 {
			return nil
		}
	}
	return nil
}

// restorable keeps the timeline restorable, as far as it is.
func (d *decision) restorable(tl *Timeline) error {
	aim := tl.ID
	if len(tl.Runs) > 0 && tl.History == nil && (aim > 1 && (d.inv.Timelines[0] != tl || d.held[0].Timeline != aim)) {
		return refusal("push the history file, which a server of that timeline has in its pg_wal",
			"the archive lacks %s.history: from which backups timeline %d can be restored is not clear", aim, aim)
	}
	// A label tells of a backup that nobody here can see: one that is stored counts
	// for more.
	for _, stored := range []bool{true, false} {
		var way *Held // the newest of those that lead there, and that far
		var farthest, kept uint64
		for _, h := range d.held {
			if h.Stored != stored || h.Unfinished || h.hole != (walname.Segment{}) || !d.inv.leads(h.Timeline, max(h.End, h.Start+1), aim) {
				continue
			}
			to := d.inv.extent(aim, d.place(h))
			if h.Keep {
				kept = max(kept, to)
			}
			if to >= farthest {
				way, farthest = h, to
			}
		}
		if way != nil && kept == farthest {
			return nil
		}
		if way != nil {
			way.Keep, way.Why = true, fmt.Sprintf("timeline %d, the newest, can be restored from no other", aim)
			if kept > 0 {
				way.Why = fmt.Sprintf("timeline %d, the newest, can be restored from no other to its end", aim)
			}
			return nil
		}
	}
	lowest := ^uint64(0)
	for _, h := range d.held {
		if h.Keep {
			lowest = min(lowest, d.place(h))
		}
	}
	if d.Rules.KeepFrom == nil && len(tl.Runs) > 0 && d.geometry.Number(tl.Runs[0].First) < lowest {
		return refusal("take a backup of the server that writes it (walship backup), or say yourself from where WAL is needed: --keep-from",
			"no backup leads to timeline %d, the newest, whose WAL would go with that of the older ones", aim)
	}
	return nil
}

// extent is the first place at or behind from that lacks its segment on the way
// to a timeline.
func (inv *Inventory) extent(aim walname.Timeline, from uint64) uint64 {
	for _, s := range inv.way(aim) {
		own := inv.Timeline(s.timeline)
		for from >= s.first && from <= s.last {
			run, ok := Run{}, false
			if own != nil {
				run, ok = own.runAt(inv.Geometry, from)
			}
			if !ok {
				return from
			}
			from = min(inv.Geometry.Number(run.Last), s.last) + 1
		}
	}
	return from
}

// place is the number of the segment that the backup begins in.
func (d *decision) place(h *Held) uint64 {
	n := d.geometry.Number(d.geometry.At(h.Timeline, h.Start))
	if h.Stored { // whatever its manifest says
		n = min(n, d.geometry.Number(h.id.Start))
	}
	return n
}

// decideCut finds the first segment that anything needs.
func (d *decision) decideCut() error {
	need := func(n uint64, tl walname.Timeline, why string) {
		if !d.HasCut || n < d.cut {
			d.HasCut, d.cut, d.CutWhy = true, n, why
			d.Cut = d.geometry.FromNumber(tl, n)
			d.CutLSN = d.geometry.Start(d.Cut)
		}
	}
	for _, h := range d.held {
		if !h.Keep {
			continue
		}
		why := "backup " + h.Name + " begins there"
		if h.Unfinished {
			why = "backup " + h.Name + ", which is not finished, begins there"
		}
		need(d.place(h), h.Timeline, why)
	}
	if k := d.Rules.KeepFrom; k != nil {
		n, err := k.place(d.geometry)
		if err != nil {
			return err
		}
		need(n, max(k.segment.Timeline, 1), "--keep-from "+k.text)
	}
	return nil
}
