package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"walship/internal/layout"
	"walship/internal/pgdata"
	"walship/internal/stored"
	"walship/internal/walpage"
	"walship/transport"
	"walship/walname"
)

// recovering reports whether a server that recovers may be asking.
func (q *question) recovering() bool {
	return q.Data != nil && (q.Mode == pgdata.Standby || q.Mode == pgdata.ArchiveRecovery)
}

// rewinding reports whether pg_rewind asks, from wherever it was started: it
// names the file by its own name in the folder of WAL, by an absolute path. It
// needs the segments behind a fork.
func (q *question) rewinding() bool {
	if !filepath.IsAbs(q.Path) || filepath.Base(q.Path) != q.Name {
		return false
	}
	_, inData := pgdata.FromWALPath(q.Path)
	return inData
}

// aim is the timeline that recovery is aimed at; latest if at whatever is newest.
func (q *question) aim() (timeline walname.Timeline, latest bool) {
	target, err := q.Data.RecoveryTarget()
	if err != nil {
		q.Warn(fmt.Sprintf("taking recovery_target_timeline for latest: %v", err))
		return 0, true
	}
	return target.Timeline, target.Latest
}

// relevant are the newer timelines that recovery would go to: with an aim of its
// own, only that one's.
func (q *question) relevant() ([]walname.History, error) {
	newer, err := q.newer()
	if err != nil || len(newer) == 0 {
		return nil, err
	}
	timeline, latest := q.aim()
	if latest {
		return newest(newer, q.name.Timeline()), nil
	}
	for _, h := range newer {
		if h.Timeline == timeline {
			return []walname.History{h}, nil
		}
	}
	return nil, nil
}

// newest are the timelines that a server may take for the newest one above tl:
// the highest, and, as it stops looking at the first number that is missing, the
// one below the first gap. The others it goes past; where one of them is an
// ancestor, the newest one's history says so.
func newest(newer []walname.History, tl walname.Timeline) []walname.History {
	byTimeline := make(map[walname.Timeline]walname.History)
	top := tl
	for _, h := range newer {
		byTimeline[h.Timeline] = h
		top = max(top, h.Timeline)
	}
	gap := tl
	for ; gap < top; gap++ {
		if _, ok := byTimeline[gap+1]; !ok {
			break
		}
	}
	if h, ok := byTimeline[gap]; ok && gap != top {
		return []walname.History{h, byTimeline[top]}
	}
	return []walname.History{byTimeline[top]}
}

// guardFork withholds a segment of a timeline that a newer one has left at or
// before the segment's end. PostgreSQL asks for the newest timeline's segment
// first; if that is not archived yet, it takes the old timeline's, replays rows
// that the new timeline never had, and cannot go on.
func (q *question) guardFork(ctx context.Context) error {
	if !q.mayBeLeft() {
		return nil
	}
	histories, err := q.relevant()
	if err != nil {
		return err
	}
	for _, h := range histories {
		left, err := q.left(ctx, h)
		if err != nil {
			return err
		}
		if left == "" {
			continue
		}
		return transport.WithHint(
			fmt.Errorf("%w: %s, as timeline %d has left timeline %d at %s", ErrWithheld, q.name, h.Timeline, q.name.Timeline(), left),
			fmt.Sprintf("recovery needs timeline %d's own segment, which may not be archived yet; to recover along timeline %d set recovery_target_timeline = '%d', or use walship fetch --no-fork-guard",
				h.Timeline, q.name.Timeline(), q.name.Timeline()))
	}
	return nil
}

// mayBeLeft reports whether the fork guard has a say in the file.
func (q *question) mayBeLeft() bool {
	return q.ForkGuard && q.name.Kind == walname.KindSegment && q.recovering() && !q.rewinding()
}

// shared is where h ceases to share q's timeline: the lowest switch point from
// that timeline's line on. segment is set instead where only that is known.
func (q *question) shared(h walname.History) (at walname.LSN, segment walname.Segment, child walname.Timeline, ok bool) {
	g := q.Data.Geometry()
	for _, a := range h.Ancestors {
		if a.Timeline < q.name.Timeline() || !ok && a.Timeline != q.name.Timeline() {
			continue
		}
		switch {
		case !ok:
			at, segment, ok = a.Switch, a.SwitchSegment, true
		case child == 0:
			child = a.Timeline
		}
		if a.Exact() {
			at = min(at, a.Switch)
		} else if g.Number(a.SwitchSegment) < g.Number(segment) {
			segment = a.SwitchSegment
		}
	}
	if child == 0 {
		child = h.Timeline
	}
	return at, segment, child, ok
}

// left says where h has left q's timeline if that is at or before the segment's
// end, and "" if not.
func (q *question) left(ctx context.Context, h walname.History) (string, error) {
	at, fork, child, ok := q.shared(h)
	if !ok {
		return "", nil
	}
	g, s := q.Data.Geometry(), q.name.Segment
	if (fork == walname.Segment{}) {
		if at < g.End(s) {
			return at.String(), nil
		}
		return "", nil
	}
	switch n, f := g.Number(s), g.Number(fork); {
	case n < f:
		return "", nil
	case n > f:
		return "segment " + fork.String(), nil
	}
	// Up to 9.2 a fork at the very end of the segment is recorded like one within
	// it. The new timeline then begins with the next segment.
	s.Timeline = child
	own, err := q.archived(ctx, s)
	if err != nil || own {
		return "segment " + fork.String(), err
	}
	if next, ok := g.Next(s); ok {
		if behind, err := q.archived(ctx, next); err != nil || behind {
			return "", err
		}
	}
	return "segment " + fork.String(), nil
}

// archived reports whether any archive has the segment.
func (q *question) archived(ctx context.Context, s walname.Segment) (bool, error) {
	return q.anywhere(func(q *question) (bool, error) { return q.archivedHere(ctx, s) })
}

func (q *question) archivedHere(ctx context.Context, s walname.Segment) (bool, error) {
	other := &question{Fetcher: q.Fetcher, cluster: q.cluster, name: walname.Name{Kind: walname.KindSegment, Segment: s}}
	for _, place := range other.places() {
		_, err := q.Store.Head(ctx, place, 0)
		if err == nil && isFlat(place) {
			if ours, err := q.ours(); err != nil || !ours {
				return false, err
			}
		}
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return false, nil
}

// guardGap is asked when the file is not there. In archive recovery PostgreSQL
// takes that for the end of WAL, promotes, and drops what lies behind; so a hole
// is reported as one: a segment that the same timeline goes on behind, or that
// lies before the point where a newer timeline has left its own; or a history
// behind which there are newer ones.
func (q *question) guardGap(ctx context.Context) error {
	if !q.GapGuard || q.Mode != pgdata.ArchiveRecovery || !q.recovering() {
		return nil
	}
	switch q.name.Kind {
	case walname.KindSegment:
		return q.guardSegmentGap(ctx)
	case walname.KindHistory:
		newer, err := q.newer()
		if err != nil {
			return err
		}
		if len(newer) == 0 || q.name.Timeline() == 1 { // timeline 1 has no history
			return nil
		}
		// PostgreSQL counts up until a history is missing: at the start to find
		// the latest timeline, in the end to name the one that it begins, wherever
		// recovery was aimed.
		h := newer[0]
		return transport.WithHint(
			fmt.Errorf("%w: %s is missing and timeline %d is there: PostgreSQL would not see that one, or begin timeline %d a second time", ErrWithheld, q.name, h.Timeline, q.name.Timeline()),
			fmt.Sprintf("bring the history back; or recover along timeline %d with recovery_target_timeline = '%d', or do without it with walship fetch --no-gap-guard", h.Timeline, h.Timeline))
	}
	return nil
}

func (q *question) guardSegmentGap(ctx context.Context) error {
	g, s := q.Data.Geometry(), q.name.Segment
	if before, err := q.beforeOwnFork(ctx); err != nil || before {
		return err
	}
	hole := func(why string) error {
		return transport.WithHint(
			fmt.Errorf("%w: %s is missing, and this is not the end of WAL: %s", ErrWithheld, q.name, why),
			"PostgreSQL would end recovery here and drop what lies behind; bring the segment back, or, to recover only up to here, set a recovery target or use walship fetch --no-gap-guard")
	}
	if q.atHand() {
		return nil
	}
	var later walname.Segment
	ok, err := q.anywhere(func(q *question) (ok bool, err error) {
		later, ok, err = q.laterSegment(ctx)
		return ok, err
	})
	if err != nil {
		return err
	}
	if ok {
		return hole(fmt.Sprintf("the archive goes on with %s", later))
	}
	histories, err := q.relevant()
	if err != nil {
		return err
	}
	for _, h := range histories {
		at, fork, _, ok := q.shared(h)
		switch {
		case !ok:
		case fork == walname.Segment{} && g.End(s) <= at:
			return hole(fmt.Sprintf("timeline %d follows this one up to %s", h.Timeline, at))
		case fork != walname.Segment{} && g.Number(s) < g.Number(fork):
			return hole(fmt.Sprintf("timeline %d follows this one up to segment %s", h.Timeline, fork))
		}
	}
	return nil
}

// atHand reports whether the server's own folder, where PostgreSQL looks next,
// has the whole segment. The first page and the last one tell: a recycled file
// has old addresses in them, and an unfinished one none at its end. Nor has one
// that was closed early, which is therefore not recognised.
func (q *question) atHand() bool {
	f, err := os.Open(filepath.Join(q.Data.WALDir(), q.name.String()))
	if err != nil {
		return false
	}
	defer f.Close()
	page := func(at int64) walpage.Header {
		front := make([]byte, walpage.MinLen)
		if _, err := f.ReadAt(front, at); err != nil {
			return walpage.Header{}
		}
		h, _ := walpage.Parse(front) // what it cannot read fits nothing
		return h
	}
	g := q.Data.Geometry()
	first := page(0)
	if first.Check(q.name.Segment, g, q.Data.Control.SystemID) != nil || first.BlockSize == 0 {
		return false
	}
	block := int64(first.BlockSize)
	last := page(g.SegmentSize - block)
	return last.Magic == first.Magic && last.PageAddr == g.Start(q.name.Segment)+walname.LSN(g.SegmentSize-block)
}

// beforeOwnFork reports whether the segment lies before the beginning of its
// timeline: up to 9.6 PostgreSQL asks for such ones first, and they never exist.
func (q *question) beforeOwnFork(ctx context.Context) (bool, error) {
	tl := q.name.Timeline()
	if tl == 1 {
		return false, nil
	}
	local, _ := q.Data.Histories() // a broken one was reported already
	for _, h := range local {
		if h.Timeline == tl {
			return q.beforeBegin(h), nil
		}
	}
	var own walname.History
	found, err := q.anywhere(func(q *question) (found bool, err error) {
		own, found, err = q.ownHistory(ctx)
		return found, err
	})
	return found && q.beforeBegin(own), err
}

// ownHistory is the archived history of the file's own timeline.
func (q *question) ownHistory(ctx context.Context) (h walname.History, ok bool, err error) {
	n := walname.Name{Kind: walname.KindHistory, Segment: walname.Segment{Timeline: q.name.Timeline()}}
	other := &question{Fetcher: q.Fetcher, cluster: q.cluster, name: n}
	for _, place := range other.places() {
		h, err := q.readHistory(ctx, place, n)
		if err == nil && isFlat(place) {
			if ours, err := q.ours(); err != nil || !ours {
				return h, false, err
			}
		}
		if err == nil {
			return h, true, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return h, false, err
		}
	}
	return h, false, nil
}

func (q *question) beforeBegin(h walname.History) bool {
	g, s, parent := q.Data.Geometry(), q.name.Segment, h.Parent()
	if parent.Exact() {
		return g.End(s) <= parent.Switch
	}
	return g.Number(s) <= g.Number(parent.SwitchSegment) // equal: see left
}

// laterSegment finds an archived segment behind q's on the same timeline.
func (q *question) laterSegment(ctx context.Context) (later walname.Segment, ok bool, err error) {
	s := q.name.Segment
	look := func(codecs []stored.Codec) func(transport.FileInfo) error {
		return func(e transport.FileInfo) error {
			n, isWAL := layout.ParseStored(e.Name, stored.Extensions(codecs))
			if isWAL && n.Kind == walname.KindSegment && n.Timeline() == s.Timeline &&
				(n.Segment.Log > s.Log || n.Segment.Log == s.Log && n.Segment.Seg > s.Seg) {
				later, ok = n.Segment, true
				return fs.SkipAll
			}
			return nil
		}
	}
	if err := q.Store.List(ctx, ".", look(stored.Foreign())); err != nil {
		return later, false, err
	}
	if ok {
		if ours, err := q.ours(); err != nil || ours {
			return later, ours, err
		}
		later, ok = walname.Segment{}, false
	}
	if q.cluster.SystemID == 0 {
		return later, false, nil
	}
	var logs []string
	err = q.Store.List(ctx, q.cluster.WAL(), func(e transport.FileInfo) error {
		if e.IsDir && len(e.Name) == 16 && strings.HasPrefix(e.Name, s.Timeline.String()) && e.Name >= s.String()[:16] {
			logs = append(logs, e.Name)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return later, false, err
	}
	for _, log := range logs {
		err := q.Store.List(ctx, q.cluster.WAL()+"/"+log, look(stored.Written()))
		if err != nil || ok {
			return later, ok, err
		}
	}
	return later, false, nil
}
