package archive

import (
	"cmp"
	"context"
	"errors"
	"path"
	"slices"
	"time"

	"walship/internal/basebackup"
	"walship/internal/stored"
	"walship/transport"
	"walship/walname"
)

// stored takes the backups that lie in the archive.
func (d *decision) stored() error {
	for _, b := range d.inv.Backups {
		h := &Held{Name: b.ID.String(), Stored: true, Timeline: b.ID.Start.Timeline, Start: d.geometry.Start(b.ID.Start),
			Time: b.Written, Files: b.Files, Size: b.Stored, id: b.ID}
		if m := b.Manifest; m != nil {
			h.manifest, h.Timeline, h.Start, h.End = true, m.Timeline, m.StartLSN, m.EndLSN
		}
		d.add(h)
	}
	return nil
}

// add takes a backup. What has no manifest is in progress, or has died if all
// of it is older than a day.
func (d *decision) add(h *Held) {
	if h.Stored && !h.manifest {
		if d.dead(h.Time) {
			d.Abandoned = append(d.Abandoned, Abandoned{h.Name, h.Files, h.Size})
			return
		}
		h.Unfinished = true
	}
	d.held = append(d.held, h)
}

// dead reports whether what was last written at that time is nobody's work any
// more. An age that the archive does not tell is not a great age.
func (p *Plan) dead(written time.Time) bool {
	return !written.IsZero() && p.now.Sub(written) > abandonedAge
}

// unlisted takes folders that are still empty: of backups that have just begun.
func (d *decision) unlisted(ctx context.Context, s PruneStore) error {
	known := make(map[string]bool)
	for _, b := range d.inv.Backups {
		known[b.ID.String()] = true
	}
	entries, err := (&taker{Reader: s}).list(ctx, basebackup.Root(d.inv.Cluster))
	for _, e := range entries {
		if id, err := basebackup.ParseID(e.Name); err == nil && e.IsDir && !known[e.Name] {
			d.add(&Held{Name: e.Name, Stored: true, Timeline: id.Start.Timeline, Start: d.geometry.Start(id.Start), Time: e.ModTime, id: id})
		}
	}
	return err
}

// labels takes the backups that are known only by their label, which the server
// archives when pg_basebackup or a script has taken one. The label of a backup
// that is stored belongs to that.
func (d *decision) labels(ctx context.Context, s Reader) error {
	back := newReadBack(s, d.inv, false)
	defer back.close()
	known := make(map[string]*Held)
	for _, tl := range d.inv.Timelines {
		for _, l := range tl.Labels {
			f, _ := storedFile(path.Join(d.inv.Cluster.WAL(), l.Name[:16], l.Name), transport.FileInfo{Name: l.Name, Size: l.Size, ModTime: l.ModTime})
			if d.geometry.Check(f.Name.Segment) != nil {
				continue // no segment of this cluster; it stays where it is
			}
			start := d.geometry.Start(f.Name.Segment) + walname.LSN(f.Name.Offset)
			file := Stray{f.Stored, f.Size, f.ModTime}
			own := false
			for _, h := range d.held {
				if h.Stored && h.manifest && h.Timeline == f.Name.Timeline() && h.Start == start {
					h.labels, own = append(h.labels, file), true
				}
			}
			if own {
				continue
			}
			if h := known[f.Name.String()]; h != nil { // stored twice, under two extensions
				h.labels = append(h.labels, file)
				continue
			}
			h := &Held{Name: f.Name.String(), Timeline: f.Name.Timeline(), Start: start, Time: f.ModTime, labels: []Stray{file}}
			text, err := back.small(ctx, f)
			switch label, perr := walname.ParseBackupLabel(text); {
			case err != nil && !errors.Is(err, stored.ErrDamaged):
				return err
			case err == nil && perr == nil:
				h.End = label.Stop
			}
			known[f.Name.String()] = h
			d.held = append(d.held, h)
		}
	}
	return nil
}

// finished finds the backups whose WAL is not all there. If nothing is archived
// behind what is missing it may still come; otherwise it is a hole.
func (d *decision) finished() error {
	slices.SortStableFunc(d.held, func(a, b *Held) int {
		return cmp.Or(cmp.Compare(a.Timeline, b.Timeline), cmp.Compare(a.Start, b.Start), a.id.Time.Compare(b.id.Time))
	})
	for _, h := range d.held {
		if h.Unfinished {
			continue
		}
		missing, gap, ok := d.inv.lacks(h.Timeline, h.Start, max(h.End, h.Start+1))
		switch {
		case ok:
		case gap:
			h.hole = missing
		default:
			h.Unfinished = true
		}
	}
	return nil
}

// lacks tells which segment is the first that a backup lacks of those from
// start to the byte before end. They may lie on a later timeline, if that was
// begun in one of them, behind the end. gap tells that a later segment is there.
func (inv *Inventory) lacks(tl walname.Timeline, start, end walname.LSN) (missing walname.Segment, gap, ok bool) {
	g := inv.Geometry
	first, last := g.Number(g.At(tl, start)), g.Number(g.At(tl, end-1))
	for _, aim := range inv.Timelines {
		if !inv.leads(tl, end, aim.ID) {
			continue
		}
		lacking, known := uint64(0), false
		for _, s := range inv.way(aim.ID) {
			own := inv.Timeline(s.timeline)
			for n := max(first, s.first); n <= min(last, s.last) && !known; n++ {
				if own == nil || !own.holds(g, n) {
					lacking, known = n, true
				}
			}
		}
		if !known {
			return missing, false, true
		}
		if runs := aim.Runs; len(runs) > 0 && g.Number(runs[len(runs)-1].Last) > lacking {
			gap = true
		}
		if aim.ID == tl || missing == (walname.Segment{}) {
			missing = g.FromNumber(tl, lacking)
		}
	}
	if missing == (walname.Segment{}) { // nothing at all of its timeline
		missing = g.FromNumber(tl, first)
	}
	return missing, gap, false
}

// leads reports whether recovery of a backup that ends at end on timeline tl can
// go on to the timeline aim.
func (inv *Inventory) leads(tl walname.Timeline, end walname.LSN, aim walname.Timeline) bool {
	if aim == tl {
		return true
	}
	t := inv.Timeline(aim)
	if t == nil || t.History == nil {
		return false
	}
	a, ok := left(*t.History, tl)
	switch {
	case !ok:
		return false
	case a.Exact():
		return a.Switch >= end
	}
	g := inv.Geometry
	return g.Number(a.SwitchSegment) >= g.Number(g.At(tl, end-1))
}
