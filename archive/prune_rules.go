package archive

import (
	"fmt"
	"strings"
	"time"

	"walship/walname"
)

// Rules say what may go. A backup expires only if every rule that speaks of
// backups gives it up; WAL goes only if no backup that is kept needs it.
type Rules struct {
	KeepBackups int           // how many of the newest to keep; 0: no such rule
	OlderThan   time.Duration // give up what was stored longer ago than this; 0: no such rule
	KeepFrom    *KeepFrom     // keep WAL from here on, whatever else is given up; nil: no such rule
}

// expiring reports whether any of the rules gives up backups.
func (r Rules) expiring() bool {
	return r.KeepBackups > 0 || r.OlderThan > 0 || r.KeepFrom != nil && r.KeepFrom.label
}

// KeepFrom is a place in WAL, on every timeline.
type KeepFrom struct {
	text    string
	segment walname.Segment // zero if only the position is known
	lsn     walname.LSN     // of a position or a label
	label   bool            // it is a .backup file's name
}

func (k *KeepFrom) String() string { return k.text }

// ParseKeepFrom reads the name of a segment, also with .partial, that of a
// .backup file, or a position such as 0/5A000000.
func ParseKeepFrom(s string) (*KeepFrom, error) {
	k := &KeepFrom{text: s}
	if strings.Contains(s, "/") {
		lsn, err := walname.ParseLSN(s)
		k.lsn = lsn
		return k, err
	}
	n, err := walname.Parse(s)
	if err != nil {
		return nil, err
	}
	switch n.Kind {
	case walname.KindHistory:
		return nil, fmt.Errorf("%s is a history file, which stands for no place in WAL; name a segment, a .backup file or a position", s)
	case walname.KindBackup:
		k.label, k.lsn = true, walname.LSN(n.Offset) // within the segment, see place
	}
	k.segment = n.Segment
	return k, nil
}

// place is the number of the segment from which on WAL is kept.
func (k *KeepFrom) place(g walname.Geometry) (uint64, error) {
	if k.segment == (walname.Segment{}) {
		return g.Number(g.At(1, k.lsn)), nil
	}
	if err := g.Check(k.segment); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return g.Number(k.segment), nil
}

// check refuses a place at which the archive has a hole, or to which it does
// not reach: what remains would not begin where it was told to.
func (k *KeepFrom) check(inv *Inventory) error {
	n, err := k.place(inv.Geometry)
	if err != nil {
		return err
	}
	behind, newest, there := false, uint64(0), false
	for _, tl := range inv.Timelines {
		if len(tl.Runs) == 0 {
			continue
		}
		last := inv.Geometry.Number(tl.Runs[len(tl.Runs)-1].Last)
		newest = max(newest, last)
		own := k.segment == (walname.Segment{}) || k.segment.Timeline == tl.ID
		there = there || own && tl.holds(inv.Geometry, n)
		behind = behind || own && last > n && inv.Geometry.Number(tl.Runs[0].First) < n
	}
	switch {
	case there:
		return nil
	case behind:
		return fmt.Errorf("%w: %s is missing in the archive, although there is WAL before it and behind it; what would remain is not clear", ErrRefused, k)
	case n > newest+1:
		return fmt.Errorf("%w: %s lies behind the newest segment of the archive, %s: all of its WAL would go", ErrRefused, k, inv.Geometry.FromNumber(inv.Newest(), newest))
	}
	return nil
}
