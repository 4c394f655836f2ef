package restore

import (
	"fmt"
	"math"
	"slices"

	"walship/internal/basebackup"
	"walship/walname"
)

// leg is the part of a way through the timelines that lies on one of them.
type leg struct {
	Timeline walname.Timeline

	// End is the first position that is no longer on it; math.MaxUint64 on the
	// last leg. In histories of 9.0 to 9.2 only the segment is known in which the
	// timeline was left, or at whose very end: End is then the segment's first
	// position, which is surely on it, and Segment tells.
	End     walname.LSN
	Segment walname.Segment
}

// way is how recovery comes to a timeline: the timelines that it goes along,
// oldest first.
type way []leg

// wayTo returns the way to h's timeline. What h shares with an ancestor ends at
// the lowest of that ancestor's and all later ones' switch points.
func wayTo(h walname.History, g walname.Geometry) way {
	w := make(way, 0, len(h.Ancestors)+1)
	for _, a := range h.Ancestors {
		l := leg{Timeline: a.Timeline, End: a.Switch}
		if !a.Exact() {
			l.End, l.Segment = g.Start(a.SwitchSegment), a.SwitchSegment
		}
		w = append(w, l)
	}
	w = append(w, leg{Timeline: h.Timeline, End: math.MaxUint64})
	for i := len(w) - 2; i >= 0; i-- {
		if w[i+1].End < w[i].End {
			w[i].End, w[i].Segment = w[i+1].End, w[i+1].Segment
		}
	}
	return w
}

// has reports whether the position lies on the timeline's own leg, or at its end.
func (w way) has(tl walname.Timeline, at walname.LSN) bool {
	begin := walname.LSN(0)
	for _, l := range w {
		if l.Timeline == tl {
			return begin <= at && at <= l.End
		}
		begin = l.End
	}
	return false
}

// holds reports whether the backup lies on the way as a whole.
func (w way) holds(m basebackup.Manifest) bool {
	return w.has(m.Timeline, m.StartLSN) && w.has(m.Timeline, m.EndLSN)
}

// left is the position at which the way leaves the timeline; false if it does
// not, or never comes there.
func (w way) left(tl walname.Timeline) (walname.LSN, bool) {
	for i, l := range w {
		if l.Timeline == tl {
			return l.End, i < len(w)-1
		}
	}
	return 0, false
}

// on is the timeline whose segment holds the byte at the position: where a
// timeline begins within a segment, the segment is the new one's.
func (w way) on(n uint64, g walname.Geometry) walname.Timeline {
	tl := w[0].Timeline
	for i, l := range w[:len(w)-1] {
		if n >= g.Number(g.At(l.Timeline, l.End)) {
			tl = w[i+1].Timeline
		}
	}
	return tl
}

// inexactly reports whether the segment of that number is one in which, or at
// whose end, a timeline was left, nobody knows which.
func (w way) inexactly(n uint64, g walname.Geometry) (older walname.Timeline, ok bool) {
	for _, l := range w {
		if (l.Segment != walname.Segment{}) && g.Number(l.Segment) == n {
			return l.Timeline, true
		}
	}
	return 0, false
}

// newest is the latest timeline on the way.
func (w way) newest() walname.Timeline { return w[len(w)-1].Timeline }

// fork is where two ways part: the lowest position that they do not share.
func fork(a, b way) walname.LSN {
	at := walname.LSN(math.MaxUint64)
	for i := range min(len(a), len(b)) {
		if a[i].Timeline != b[i].Timeline {
			break
		}
		at = min(a[i].End, b[i].End)
		if a[i].End != b[i].End {
			break
		}
	}
	if len(a) == 0 || len(b) == 0 || a[0].Timeline != b[0].Timeline {
		return 0
	}
	return at
}

// timelines is what an archive holds of a cluster's.
type timelines struct {
	geometry  walname.Geometry
	histories map[walname.Timeline]walname.History // those that can be read
	damaged   map[walname.Timeline]error           // those that cannot
	known     []walname.Timeline                   // by history, WAL or backup; sorted
}

// way returns the way to the timeline.
func (t *timelines) way(tl walname.Timeline) (way, error) {
	if err := t.damaged[tl]; err != nil {
		return nil, err
	}
	h, ok := t.histories[tl]
	if !ok {
		if tl != 1 {
			return nil, fmt.Errorf("%w: the history of timeline %d, %s.history, is missing", ErrNoWay, tl, tl)
		}
		h = walname.History{Timeline: tl}
	}
	for _, a := range h.Ancestors {
		if _, ok := t.histories[a.Timeline]; !ok && a.Timeline != 1 {
			if err := t.damaged[a.Timeline]; err != nil {
				return nil, err
			}
			return nil, fmt.Errorf("%w: the history of timeline %d, %s.history, which timeline %d descends from, is missing", ErrNoWay, a.Timeline, a.Timeline, tl)
		}
	}
	return wayTo(h, t.geometry), nil
}

// latest is the highest known timeline.
func (t *timelines) latest() walname.Timeline {
	if len(t.known) == 0 {
		return 1
	}
	return t.known[len(t.known)-1]
}

// others are the known timelines, but for those that w goes along, that have a
// way of their own, with it.
func (t *timelines) others(w way) map[walname.Timeline]way {
	all := make(map[walname.Timeline]way)
	for _, tl := range t.known {
		if tl == w.newest() {
			continue
		}
		if other, err := t.way(tl); err == nil {
			all[tl] = other
		}
	}
	return all
}

func (t *timelines) add(tl walname.Timeline) {
	if i, ok := slices.BinarySearch(t.known, tl); !ok {
		t.known = slices.Insert(t.known, i, tl)
	}
}
