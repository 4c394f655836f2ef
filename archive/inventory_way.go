package archive

import (
	"math"
	"slices"
	"sort"
	"time"

	"walship/walname"
)

// stretch is the part of a timeline that the way to a later one leads over: the
// segments from first to last, both included. There is none if last < first.
type stretch struct {
	timeline    walname.Timeline
	first, last uint64 // places, see walname.Geometry.Number
}

// way is what recovery reads that is aimed at the timeline, the oldest part
// first. The last stretch has no end. A segment in which a timeline was left is
// read from the one that begins there.
func (inv *Inventory) way(aim walname.Timeline) []stretch {
	last := []stretch{{timeline: aim, last: math.MaxUint64}}
	tl := inv.Timeline(aim)
	if tl == nil || tl.History == nil {
		return last
	}
	var back []stretch // the newest first
	end, child := uint64(math.MaxUint64), aim
	for _, a := range slices.Backward(tl.History.Ancestors) {
		// A recovery that ends before its timeline's own beginning still names it
		// as the parent: then nothing of that timeline is on the way.
		fork := min(inv.forkPlace(a, child), end)
		back = append(back, stretch{timeline: child, first: fork, last: before(end)})
		end, child = fork, a.Timeline
	}
	back = append(back, stretch{timeline: child, last: before(end)})
	slices.Reverse(back)
	var all []stretch
	for _, s := range back {
		if s.first <= s.last {
			all = append(all, s)
		}
	}
	return all
}

// before is the place before n; an end that is none stays one.
func before(n uint64) uint64 {
	if n == math.MaxUint64 || n == 0 {
		return n
	}
	return n - 1
}

// forkPlace is the place of the first segment that recovery reads of child,
// which has left a.Timeline as a says.
func (inv *Inventory) forkPlace(a walname.Ancestor, child walname.Timeline) uint64 {
	g := inv.Geometry
	if a.Exact() {
		return g.Number(g.At(child, a.Switch))
	}
	// 9.0 to 9.2 tell the segment of the last byte before the switch. Where that
	// was the segment's end, the child begins with the next one.
	n := g.Number(a.SwitchSegment)
	if tl := inv.Timeline(child); tl != nil && len(tl.Runs) > 0 && !tl.holds(g, n) && tl.holds(g, n+1) {
		return n + 1
	}
	return n
}

// holds reports whether the segment at the place n is there.
func (tl *Timeline) holds(g walname.Geometry, n uint64) bool {
	_, ok := tl.runAt(g, n)
	return ok
}

// runAt finds the run that holds the place n.
func (tl *Timeline) runAt(g walname.Geometry, n uint64) (Run, bool) {
	i := sort.Search(len(tl.Runs), func(i int) bool { return g.Number(tl.Runs[i].Last) >= n })
	if i < len(tl.Runs) && g.Number(tl.Runs[i].First) <= n {
		return tl.Runs[i], true
	}
	return Run{}, false
}

// part is a row of segments on a way, that are there or are missing.
type part struct {
	stretch
	missing bool
	stored  time.Time // when the last was, if that is known
}

// parts divides a way into what is there and what is missing, from the first
// segment that is there to the last one.
func (inv *Inventory) parts(way []stretch) []part {
	g := inv.Geometry
	var parts []part
	known := 0 // parts up to the last segment that is there
	for _, s := range way {
		at := s.first
		if tl := inv.Timeline(s.timeline); tl != nil {
			for _, r := range tl.Runs {
				first, last := max(g.Number(r.First), s.first), min(g.Number(r.Last), s.last)
				if first > last {
					continue
				}
				if at < first && known > 0 {
					parts = append(parts, part{stretch: stretch{s.timeline, at, first - 1}, missing: true})
				}
				p := part{stretch: stretch{s.timeline, first, last}}
				if last == g.Number(r.Last) {
					p.stored = r.Stored
				}
				parts = append(parts, p)
				known, at = len(parts), last+1
			}
		}
		if s.last != math.MaxUint64 && at <= s.last && known > 0 {
			parts = append(parts, part{stretch: stretch{s.timeline, at, s.last}, missing: true})
		}
	}
	return parts[:known]
}

// gaps are what is missing on the way to any timeline.
func (inv *Inventory) gaps() []Gap {
	g := inv.Geometry
	missing := make(map[walname.Timeline][]stretch)
	for _, tl := range inv.Timelines {
		for _, p := range inv.parts(inv.way(tl.ID)) {
			if p.missing {
				missing[p.timeline] = append(missing[p.timeline], p.stretch)
			}
		}
	}
	var all []Gap
	for id, list := range missing {
		sort.Slice(list, func(i, j int) bool { return list[i].first < list[j].first })
		merged := list[:1]
		for _, s := range list[1:] {
			if last := &merged[len(merged)-1]; s.first <= last.last+1 {
				last.last = max(last.last, s.last)
			} else {
				merged = append(merged, s)
			}
		}
		for _, s := range merged {
			all = append(all, Gap{g.FromNumber(id, s.first), g.FromNumber(id, s.last), int64(s.last - s.first + 1)})
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].First.String() < all[j].First.String() })
	return all
}

// Newest is the timeline that recovery goes to by default: the one with the
// highest number; 0 if there is none.
func (inv *Inventory) Newest() walname.Timeline {
	if n := len(inv.Timelines); n > 0 {
		return inv.Timelines[n-1].ID
	}
	return 0
}

// Reach is how far recovery gets along a timeline without a gap.
type Reach struct {
	Timeline walname.Timeline // that recovery is aimed at
	From     walname.LSN
	To       walname.LSN     // the end of the last segment that is there
	Last     walname.Segment // that one
	Stored   time.Time       // when it was stored, by the archive's clock; zero if that is not known
	Missing  walname.Segment // what follows Last and is missing although more lies behind it; zero if nothing does
}

// Whole reports whether nothing is missing up to the last segment of the way.
func (r Reach) Whole() bool { return r.Missing == walname.Segment{} }

// reach follows the way from the segment at a place of a timeline. ok is false if that
// segment is not there, or not on the way.
func (inv *Inventory) reach(aim, tl walname.Timeline, from uint64) (r Reach, ok bool) {
	g := inv.Geometry
	r = Reach{Timeline: aim, From: g.Start(g.FromNumber(tl, from))}
	for _, p := range inv.parts(inv.way(aim)) {
		switch {
		case !ok && (p.timeline != tl || from < p.first || from > p.last):
			continue
		case !ok && p.missing:
			return r, false
		case p.missing:
			r.Missing = g.FromNumber(p.timeline, p.first)
			return r, true
		}
		ok = true
		r.Last = g.FromNumber(p.timeline, p.last)
		r.To, r.Stored = g.End(r.Last), p.stored
	}
	return r, ok
}

// Restorable tells how far a backup can be recovered along the newest timeline,
// or, where the way there does not lead over the backup's end, along its own. ok
// is false if not even the backup's own WAL is there: then Missing is what it
// lacks first.
func (inv *Inventory) Restorable(b Backup) (r Reach, ok bool) {
	return inv.RestorableTo(b, inv.Newest())
}

// RestorableTo is Restorable for recovery that is aimed at a timeline.
func (inv *Inventory) RestorableTo(b Backup, aim walname.Timeline) (r Reach, ok bool) {
	m := b.Manifest
	if m == nil {
		return r, false
	}
	g := inv.Geometry
	start := g.Number(g.At(m.Timeline, m.StartLSN))
	end := max(m.EndLSN, m.StartLSN+1) - 1
	along := m.Timeline
	for _, s := range inv.way(aim) {
		if s.timeline == m.Timeline && s.first <= start && start <= s.last && inv.endsBefore(aim, m.Timeline, m.EndLSN) {
			along = aim
		}
	}
	r, ok = inv.reach(along, m.Timeline, start)
	if !ok {
		r.Missing = g.FromNumber(m.Timeline, start)
		return r, false
	}
	r.From = m.EndLSN
	if r.To <= end {
		if r.Missing == (walname.Segment{}) {
			r.Missing, _ = g.Next(r.Last)
		}
		return r, false
	}
	return r, true
}

// endsBefore reports whether the timeline tl was left, on the way to aim, at lsn
// or behind it.
func (inv *Inventory) endsBefore(aim, tl walname.Timeline, lsn walname.LSN) bool {
	if aim == tl {
		return true
	}
	t := inv.Timeline(aim)
	if t == nil || t.History == nil {
		return false
	}
	for _, a := range t.History.Ancestors {
		if a.Timeline >= tl && a.Exact() && a.Switch < lsn {
			return false
		}
	}
	return true
}

// Covered is WAL without a gap up to the end of a timeline: what a base backup
// from elsewhere can be recovered with. ok is false if there is none.
func (inv *Inventory) Covered(aim walname.Timeline) (first walname.Segment, r Reach, ok bool) {
	parts := inv.parts(inv.way(aim))
	if len(parts) == 0 {
		return first, r, false
	}
	i := len(parts) - 1
	for i > 0 && !parts[i-1].missing {
		i--
	}
	g := inv.Geometry
	r, ok = inv.reach(aim, parts[i].timeline, parts[i].first)
	return g.FromNumber(parts[i].timeline, parts[i].first), r, ok
}

// Range is between what points the cluster can be restored along a timeline.
type Range struct {
	Reach
	Oldest  Backup // the oldest that gets as far as To
	Backups int    // how many get there
}

// Range finds the backups that get farthest along a timeline, which is to its
// end if there is no gap behind all of them. ok is false if no backup can be
// restored along it.
func (inv *Inventory) Range(aim walname.Timeline) (best Range, ok bool) {
	for _, b := range inv.Backups { // the oldest first
		r, reaches := inv.RestorableTo(b, aim)
		switch {
		case !b.Usable() || !reaches || r.Timeline != aim:
		case !ok || r.To > best.To:
			best, ok = Range{r, b, 1}, true
		case r.To == best.To:
			best.Backups++
		}
	}
	return best, ok
}
