package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"walship/internal/async"
	"walship/internal/crypt"
	"walship/internal/layout"
	"walship/internal/stored"
	"walship/transport"
	"walship/walname"
)

// walArchive is the archived WAL of a cluster. Folders are listed when they are
// needed, each of them once for each scan; memory holds the names of one.
type walArchive struct {
	store    Store
	cluster  layout.Cluster
	geometry walname.Geometry
	logs     map[walname.Timeline][]uint32 // that have a folder, sorted
}

// seen is what look has found.
type seen struct {
	wal   *walArchive
	lines *timelines
}

// look lists the archive's WAL folders and history files, and reads these. The
// geometry of what it returns is for the caller to set.
func (r *Restorer) look(ctx context.Context, c layout.Cluster) (*seen, error) {
	a := &walArchive{store: r.Store, cluster: c, logs: make(map[walname.Timeline][]uint32)}
	t := &timelines{histories: make(map[walname.Timeline]walname.History), damaged: make(map[walname.Timeline]error)}
	there := async.Go(func() (struct{}, error) {
		return struct{}{}, r.Store.List(ctx, c.Histories(), func(transport.FileInfo) error { return fs.SkipAll })
	})
	reading := async.Go(func() (struct{}, error) { return struct{}{}, r.histories(ctx, c, t) })
	err := r.Store.List(ctx, c.WAL(), func(e transport.FileInfo) error {
		if len(e.Name) != 16 {
			return nil
		}
		if n, err := walname.Parse(e.Name + "00000000"); err == nil {
			a.logs[n.Segment.Timeline] = append(a.logs[n.Segment.Timeline], n.Segment.Log)
		}
		return nil
	})
	_, readErr := reading.Wait()
	_, absent := there.Wait()
	for _, f := range []struct {
		name string
		err  error
	}{{c.WAL(), err}, {c.Histories(), absent}} {
		if errors.Is(f.err, fs.ErrNotExist) {
			return nil, transport.WithHint(fmt.Errorf("%w: its folder %s is missing", ErrArchive, f.name), "is a disk of its own mounted there, or was the folder moved away?")
		}
		if f.err != nil {
			return nil, f.err
		}
	}
	for tl, logs := range a.logs {
		t.add(tl)
		slices.Sort(logs)
	}
	return &seen{a, t}, readErr
}

// histories reads all history files into t.
func (r *Restorer) histories(ctx context.Context, c layout.Cluster, t *timelines) error {
	q := &question{Fetcher: &Fetcher{Store: r.Store, Keys: r.Keys, Warn: func(string) {}}, cluster: c}
	names, err := q.listHistories(ctx)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(readers)
	for _, name := range names {
		n, _ := layout.ParseStored(path.Base(name), stored.Extensions(stored.Written()))
		g.Go(func() error {
			h, err := q.readHistory(gctx, name, n)
			if err != nil && !errors.Is(err, stored.ErrDamaged) && !errors.Is(err, crypt.ErrNoKey) {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			t.add(n.Timeline())
			if err != nil {
				t.damaged[n.Timeline()] = err
			} else {
				t.histories[n.Timeline()] = h
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for tl := range t.histories { // another copy of it, in another codec, is sound
		delete(t.damaged, tl)
	}
	return nil
}

// archivedSegment is what a listing tells.
type archivedSegment struct {
	stored string // its name in the folder
	time   time.Time
}

// folder lists the segments of one timeline and log, by their number within it.
func (a *walArchive) folder(ctx context.Context, tl walname.Timeline, log uint32) (map[uint32]archivedSegment, error) {
	if _, ok := slices.BinarySearch(a.logs[tl], log); !ok {
		return nil, nil
	}
	found := make(map[uint32]archivedSegment)
	err := a.store.List(ctx, a.cluster.LogFolder(walname.Segment{Timeline: tl, Log: log}), func(e transport.FileInfo) error {
		n, ok := layout.ParseStored(e.Name, stored.Extensions(stored.Written()))
		if ok && n.Kind == walname.KindSegment && n.Segment.Timeline == tl && n.Segment.Log == log && e.Size > 0 && !e.IsDir && a.geometry.Check(n.Segment) == nil {
			found[n.Segment.Seg] = archivedSegment{e.Name, e.ModTime}
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // pruned meanwhile
	}
	return found, err
}

// last is the newest archived segment of the timeline whose number is not below
// from; false if there is none.
func (a *walArchive) last(ctx context.Context, tl walname.Timeline, from uint64) (walname.Segment, bool, error) {
	logs := a.logs[tl]
	for i := len(logs) - 1; i >= 0; i-- {
		found, err := a.folder(ctx, tl, logs[i])
		if err != nil {
			return walname.Segment{}, false, err
		}
		best, ok := walname.Segment{Timeline: tl, Log: logs[i]}, false
		for seg := range found {
			if !ok || seg > best.Seg {
				best.Seg, ok = seg, true
			}
		}
		if ok {
			return best, a.geometry.Number(best) >= from, nil
		}
	}
	return walname.Segment{}, false, nil
}

// at tells when the segment was archived: by its record, or, where it has none,
// by the archive's clock. A segment that is not there is fs.ErrNotExist.
func (a *walArchive) at(ctx context.Context, s walname.Segment) (time.Time, error) {
	found, err := a.folder(ctx, s.Timeline, s.Log)
	if err != nil {
		return time.Time{}, err
	}
	file, ok := found[s.Seg]
	if !ok {
		return time.Time{}, fmt.Errorf("%s: %w", s, fs.ErrNotExist)
	}
	stow := path.Join(a.cluster.LogFolder(s), file.stored)
	head, err := a.store.Head(ctx, stow, stored.HeadSize)
	if err != nil {
		return time.Time{}, err
	}
	record, err := stored.ParseHead(head.Data, head.Size)
	switch {
	case errors.Is(err, stored.ErrNoRecord):
		return file.time, nil
	case err != nil:
		return time.Time{}, fmt.Errorf("%s: %w", stow, err)
	}
	return record.Time, nil
}

// scan is what of a run of WAL is archived.
type scan struct {
	present int64
	last    walname.Segment // the last one that is there
	missing []SegmentRun    // in order
	lost    int64           // how many segments the runs hold
}

// maxRuns bounds the runs that are told one by one.
const maxRuns = 1000

// scan looks for the segments numbered from first to last along the way. stop,
// if not nil, is asked before the first of each run of missing ones whether what
// lies behind matters; before is the segment in front of it, zero if none was
// there.
func (a *walArchive) scan(ctx context.Context, w way, first, last uint64, stop func(before walname.Segment) (bool, error)) (scan, error) {
	var s scan
	var have map[uint32]archivedSegment
	folder := walname.Segment{}
	there := func(seg walname.Segment) (bool, error) {
		if at := (walname.Segment{Timeline: seg.Timeline, Log: seg.Log}); have == nil || at != folder {
			var err error
			if have, err = a.folder(ctx, seg.Timeline, seg.Log); err != nil {
				return false, err
			}
			if folder = at; have == nil {
				have = map[uint32]archivedSegment{}
			}
		}
		_, ok := have[seg.Seg]
		return ok, nil
	}
	gap := false
	for n := first; n <= last; n++ {
		seg := a.geometry.FromNumber(w.on(n, a.geometry), n)
		ok, err := there(seg)
		if err != nil {
			return s, err
		}
		if older, inexact := w.inexactly(n, a.geometry); !ok && inexact {
			// Left at its very end, it has no successor of the same number.
			if ok, err = there(a.geometry.FromNumber(older, n)); err != nil {
				return s, err
			}
			if ok {
				seg.Timeline = older
			}
		}
		if ok {
			s.present, s.last, gap = s.present+1, seg, false
			continue
		}
		if !gap && stop != nil {
			done, err := stop(s.last)
			if err != nil || done {
				return s, err
			}
		}
		s.lost++
		if k := len(s.missing) - 1; gap && s.missing[k].Last.Timeline == seg.Timeline {
			s.missing[k].Last = seg
		} else if k < maxRuns {
			s.missing = append(s.missing, SegmentRun{seg, seg})
		}
		gap = true
	}
	return s, nil
}
