package archive

import (
	"fmt"
	"path"
	"strings"

	"walship/internal/basebackup"
	"walship/transport"
	"walship/walname"
)

// chain checks what the files say together: that no segment is missing on the way
// of any recovery, that the histories agree, and that each backup has its WAL.
func (r *verifying) chain() {
	inv := r.inv
	if r.Scope.WAL {
		for _, gap := range inv.Gaps {
			if r.ofInterest(gap.Last) {
				r.fault(Fault{Kind: Missing, File: r.stem(gap.First), What: gapText(gap), gap: gap})
			}
		}
		r.histories()
	}
	// Whether the WAL of a backup is there, the folders tell.
	for _, b := range inv.Backups {
		m := b.Manifest
		if m == nil || !r.wantedBackup(b) {
			continue
		}
		if missing, _, ok := inv.lacks(m.Timeline, m.StartLSN, max(m.EndLSN, m.StartLSN+1)); !ok && !r.inGap(missing) {
			r.fault(Fault{Kind: Missing, File: r.stem(missing), What: "backup " + b.ID.String() + " needs it", gap: Gap{missing, missing, 1}})
		}
	}
}

func (r *verifying) stem(s walname.Segment) string {
	return r.Cluster.Stem(walname.Name{Kind: walname.KindSegment, Segment: s})
}

func gapText(g Gap) string {
	if g.Count == 1 {
		return "it is missing, and WAL behind it is there"
	}
	return fmt.Sprintf("%d segments are missing, up to %s, and WAL behind them is there", g.Count, g.Last)
}

// inGap reports whether the segment is known to be missing already.
func (r *verifying) inGap(s walname.Segment) bool {
	g := r.inv.Geometry
	for _, f := range r.faults {
		if f.gap.Count > 0 && f.gap.First.Timeline == s.Timeline && g.Number(f.gap.First) <= g.Number(s) && g.Number(s) <= g.Number(f.gap.Last) {
			return true
		}
	}
	return false
}

// ofInterest reports whether Scope reaches to the segment.
func (r *verifying) ofInterest(s walname.Segment) bool {
	g := r.inv.Geometry
	if r.Scope.From != (walname.Segment{}) && g.Number(s) < g.Number(r.Scope.From) {
		return false
	}
	if r.Scope.Since.IsZero() {
		return true
	}
	first, ok := r.since[s.Timeline]
	return ok && g.Number(s) >= first
}

// histories compares the histories with each other, and looks for one that is
// missing.
func (r *verifying) histories() {
	known := make(map[walname.Timeline]*walname.History)
	older := false // there is something of a lower timeline
	for _, tl := range r.inv.Timelines {
		file := r.historyFile(tl.ID)
		if tl.History == nil && older && len(tl.Runs) > 0 && !r.broken(file) {
			r.fault(Fault{Kind: Missing, File: file, What: "there is WAL of the timeline, and of older ones"})
		}
		older = older || len(tl.Runs) > 0
		if tl.History == nil {
			continue
		}
		known[tl.ID] = tl.History
		parent := known[tl.History.Parent().Timeline]
		if parent == nil {
			continue
		}
		lines := tl.History.Ancestors[:len(tl.History.Ancestors)-1]
		for i, a := range parent.Ancestors {
			if i >= len(lines) || lines[i].Timeline != a.Timeline || lines[i].Switch != a.Switch || lines[i].SwitchSegment != a.SwitchSegment {
				r.fault(Fault{Kind: Contrary, File: file, What: fmt.Sprintf("of timeline %d it says other things than that one's own history", parent.Timeline)})
				break
			}
		}
		if len(lines) > len(parent.Ancestors) {
			r.fault(Fault{Kind: Contrary, File: file, What: fmt.Sprintf("it gives timeline %d more ancestors than that one's own history", parent.Timeline)})
		}
	}
}

func (r *verifying) historyFile(tl walname.Timeline) string {
	return r.Cluster.Stem(walname.Name{Kind: walname.KindHistory, Segment: walname.Segment{Timeline: tl}})
}

// broken reports whether a stored file of that stem was found broken.
func (r *verifying) broken(stem string) bool {
	for _, b := range r.inv.Broken {
		if strings.HasPrefix(b.Name, stem) {
			return true
		}
	}
	return false
}

// meanings says of each fault what it means for recovery.
func (r *verifying) meanings() {
	for i := range r.faults {
		f := &r.faults[i]
		name, isWAL := storedFile(f.File, transport.FileInfo{Name: path.Base(f.File)})
		id, inBackup := r.backupOf(f.File)
		switch {
		case f.Kind == Unknown:
			f.Means = "nothing reads it, and walship prune leaves it"
		case f.Kind == Duplicate:
			f.Means = "recovery takes either; how it came there should be known"
		case inBackup && path.Base(f.File) == basebackup.ManifestFile && f.Kind == Missing:
			f.Means = "it is no backup; walship prune removes what is left of it"
		case inBackup:
			f.Means = fmt.Sprintf("backup %s cannot be restored; WAL and other backups are not affected", id)
		case f.gap.Count > 0:
			f.Means = r.lost(f.gap)
		case !isWAL, path.Dir(f.File) == r.Cluster.Refused():
			f.Means = "recovery does not need it"
		case name.Name.Kind == walname.KindSegment:
			f.Means = r.lost(Gap{name.Name.Segment, name.Name.Segment, 1})
		case name.Name.Kind == walname.KindHistory:
			f.Means = fmt.Sprintf("no recovery can go on to timeline %d from an older one", name.Name.Timeline())
		case name.Name.Kind == walname.KindPartial:
			f.Means = fmt.Sprintf("only a recovery that is to end on timeline %d, in its last segment, needs it", name.Name.Timeline())
		default:
			f.Means = "it tells of a backup; recovery does not need it"
		}
	}
}

// lost says what it means that segments cannot be read.
func (r *verifying) lost(gap Gap) string {
	g, inv := r.inv.Geometry, r.inv
	first, last := g.Number(gap.First), g.Number(gap.Last)
	tl := gap.First.Timeline
	at := g.Start(gap.First)
	var dead, cut, after int
	var deadID string
	for _, b := range inv.Backups {
		m := b.Manifest
		if m == nil {
			continue
		}
		start, end := g.Number(g.At(m.Timeline, m.StartLSN)), g.Number(g.At(m.Timeline, max(m.EndLSN, m.StartLSN+1)-1))
		leads := m.Timeline == tl || inv.leads(m.Timeline, m.EndLSN, tl)
		switch {
		case !leads && m.Timeline < tl:
		case m.Timeline > tl || start > last:
			after++
		case start <= last && first <= end && m.Timeline == tl:
			dead++
			deadID = b.ID.String()
		default:
			cut++
		}
	}
	text := fmt.Sprintf("recovery on timeline %d stops before %s", tl, at)
	if !r.onWay(tl, first) {
		text += ", where no way to a newer timeline leads"
	}
	switch {
	case dead == 1:
		text += "; backup " + deadID + " cannot be restored"
	case dead > 1:
		text += fmt.Sprintf("; %d backups cannot be restored", dead)
	}
	if cut > 0 {
		text += fmt.Sprintf("; from %s only up to there", numbered(cut, "backup"))
	}
	if after > 0 {
		text += fmt.Sprintf("; backups after %s are not affected", gap.Last)
	}
	return text
}

// onWay reports whether the newest timeline's recovery reads that segment, or the
// timeline is the newest.
func (r *verifying) onWay(tl walname.Timeline, n uint64) bool {
	for _, s := range r.inv.way(r.inv.Newest()) {
		if s.timeline == tl && s.first <= n && n <= s.last {
			return true
		}
	}
	return false
}

func numbered(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// backupOf returns the backup in whose folder a file lies.
func (r *verifying) backupOf(file string) (string, bool) {
	dir := path.Dir(file)
	return path.Base(dir), path.Dir(dir) == basebackup.Root(r.Cluster)
}
