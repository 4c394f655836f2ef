package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"

	"walship/internal/stored"
	"walship/transport"
	"walship/walname"
)

// Behind a segment or a history that has other content in To there is another
// server's WAL. What follows it in From is held back: it would take the names that
// the other server is going to need, and recovery would go from the one's WAL into
// the other's. A history that cannot be copied holds back what it is needed for:
// without it To would say of timelines what is not so, and say it as a healthy
// archive.

// holdBehind holds back what comes behind f, which was not copied.
func (r *syncing) holdBehind(f StoredFile) {
	tl := f.Name.Timeline()
	switch f.Name.Kind {
	case walname.KindSegment:
		r.hold(tl, r.inv.Geometry.Number(f.Name.Segment))
	case walname.KindHistory:
		r.hold(tl, 0)
		if parent := r.histories[tl].Parent(); parent.Timeline != 0 {
			r.hold(parent.Timeline, r.fork(parent))
		}
	}
}

// hold holds back the timeline's WAL from the segment of that number on.
func (r *syncing) hold(tl walname.Timeline, from uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at, ok := r.holds[tl]; !ok || from < at {
		r.holds[tl] = from
	}
}

// isHeld reports whether f is held back. Of a history that depends on what its
// timeline descends from.
func (r *syncing) isHeld(f StoredFile) bool {
	switch f.Name.Kind {
	case walname.KindSegment, walname.KindPartial, walname.KindBackup:
		return r.holdsAt(f.Name.Timeline(), r.inv.Geometry.Number(f.Name.Segment))
	case walname.KindHistory:
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.holdsAncestor(f.Name.Timeline())
	}
	return false // set aside
}

// holdsAt reports whether the timeline's segment of that number is held back.
func (r *syncing) holdsAt(tl walname.Timeline, n uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.holds[tl]
	return ok && n >= at || r.holdsAncestor(tl)
}

func (r *syncing) holdsAncestor(tl walname.Timeline) bool {
	for _, a := range r.histories[tl].Ancestors {
		if at, ok := r.holds[a.Timeline]; ok && r.fork(a) >= at {
			return true
		}
	}
	return false
}

// fork is the number of the segment in which an ancestor was left.
func (r *syncing) fork(a walname.Ancestor) uint64 {
	if a.Exact() {
		return r.inv.Geometry.Number(r.inv.Geometry.At(a.Timeline, a.Switch))
	}
	return r.inv.Geometry.Number(a.SwitchSegment)
}

// knows reports whether a history that can be read names the timeline as an
// ancestor: then who lacks the timeline's own can tell that it is missing.
func (r *syncing) knows(tl walname.Timeline) bool {
	for _, h := range r.histories {
		if _, ok := h.Ancestor(tl); ok {
			return true
		}
	}
	return false
}

// unread deals with a history that is damaged in From, before anything is copied:
// To may have it whole. If not, nobody knows where it has left which timeline; it
// is not behind its own first segment.
func (r *syncing) unread(ctx context.Context, tl walname.Timeline, logs map[walname.Timeline][]string) error {
	if _, ok := r.histories[tl]; ok { // it is stored twice
		return nil
	}
	entries, err := (&taker{Reader: r.To}).list(ctx, r.Cluster.Histories())
	if err != nil {
		return r.to(err)
	}
	for _, e := range entries {
		f, ok := storedFile(path.Join(r.Cluster.Histories(), e.Name), e)
		if !ok || f.Name.Kind != walname.KindHistory || f.Name.Timeline() != tl {
			continue
		}
		switch h, err := readHistory(ctx, r.To, f); {
		case err == nil:
			r.forks(h)
			return nil
		case !errors.Is(err, stored.ErrDamaged) && !errors.Is(err, fs.ErrNotExist):
			return r.to(err)
		}
	}
	if r.knows(tl) {
		return nil
	}
	first := uint64(math.MaxUint64)
	for _, dir := range logs[tl] {
		entries, err := (&taker{Reader: r.From}).list(ctx, dir)
		if err != nil {
			return r.from(err)
		}
		for _, f := range (pair{from: newShelf(dir, entries)}).wal() {
			first = min(first, r.inv.Geometry.Number(f.Name.Segment))
		}
	}
	r.hold(tl, 0)
	for lower := range logs {
		if lower < tl {
			r.hold(lower, first)
		}
	}
	return nil
}

// Why a file is not copied, for notCopied.
var (
	errHeld = errors.New("held back")
	errBare = errors.New("not encrypted")
	errTold = errors.New("damaged, which has been said")
)

// isBare reports whether the file is not encrypted although all in To is to be.
func (r *syncing) isBare(name string) bool {
	return r.sealed && !r.Cleartext && !stored.CodecOf(path.Base(name)).IsSealed()
}

// isBareFile is isBare of a file of WAL. Histories may pass: they hold no rows, an
// encrypted one tells its forks in its head all the same, and without it nothing of
// its timeline could be copied.
func (r *syncing) isBareFile(f StoredFile) bool {
	return f.Name.Kind != walname.KindHistory && r.isBare(f.Stored)
}

func (r *syncing) bare(file string) {
	r.fault(SyncFault{Cleartext, r.FromName, file, "it is not encrypted, and all that " + r.ToName + " holds is meant to be", meansCleartext})
}

// settle has what To was found to have outlive a power cut: whoever has put it
// there may not have come to sync the folder.
func (r *syncing) settle(give func(syncJob) bool, p pair) bool {
	var both []string
	for _, e := range p.from.entries {
		if there, ok := p.to.stems[stemOf(e.Name)]; ok {
			both = append(both, there)
		}
	}
	if r.DryRun || len(both) == 0 {
		return true
	}
	return give(func(ctx context.Context, _ *readBack) error {
		for _, base := range both { // with the first one the folder is
			err := r.patiently(ctx, func() error { return r.To.Sync(ctx, path.Join(p.to.dir, base)) })
			if !errors.Is(err, fs.ErrNotExist) { // a prune's
				return r.to(err)
			}
		}
		return nil
	})
}

// walThere is nil if the WAL is there from a backup's start to its end, as far as
// From has it and it could be copied: a prune that was planned before the backup
// came may have taken it.
func (r *syncing) walThere(ctx context.Context, b Backup) error {
	g, m := r.inv.Geometry, b.Manifest
	first := g.Number(g.At(m.Timeline, m.StartLSN))
	last := g.Number(g.At(m.Timeline, max(m.EndLSN-1, m.StartLSN)))
	var dirs []string
	for n := first; n <= last; n++ {
		dir := r.Cluster.LogFolder(g.FromNumber(m.Timeline, n))
		if len(dirs) == 0 || dirs[len(dirs)-1] != dir {
			dirs = append(dirs, dir)
		}
	}
	return r.pairs(ctx, dirs, func(p pair) error {
		for _, f := range p.wal() {
			n := g.Number(f.Name.Segment)
			_, there := p.to.stems[stemOf(path.Base(f.Stored))]
			if there || f.Name.Kind != walname.KindSegment || n < first || n > last || r.lacks[f.Name.Segment] {
				continue
			}
			return r.to(transport.WithHint(fmt.Errorf("%w: %s, which backup %s needs, is not there any more", ErrArchive, f.Name, b.ID),
				"a walship prune seems to have taken it; its rule there keeps fewer backups than are copied: run it in both archives, and sync again"))
		}
		return nil
	})
}
