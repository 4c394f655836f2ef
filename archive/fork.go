package archive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"walship/walname"
)

// filed deals with what servers before 9.5 push of a timeline that they have
// left at a promotion. From 9.5 on PostgreSQL itself archives the unfinished last
// segment of the old timeline as .partial; older ones archive it under its full
// name, which is the old primary's, with other bytes. 9.0 and 9.1 push recycled
// segments behind it too, which hold something else altogether. The fork is read
// from the server's own history files. filed reports whether it has stored f.
func (p *Pusher) filed(ctx context.Context, f *file) (bool, error) {
	if f.name.Kind != walname.KindSegment || f.data == nil || f.data.Version >= 90500 || f.geometry.Check(f.name.Segment) != nil {
		return false, nil
	}
	histories, err := f.data.Histories()
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrLocal, err)
	}
	for _, h := range histories {
		// The server's own timeline is the newest that it knows; what it has seen
		// of another line than its own says nothing about its files.
		own := histories[len(histories)-1]
		if _, ok := own.Ancestor(h.Timeline); !ok && h.Timeline != own.Timeline {
			continue
		}
		a, ok := left(h, f.name.Timeline())
		if !ok {
			continue
		}
		switch f.side(h, a) {
		case atFork:
			return true, p.fileUnfinished(ctx, f)
		case pastFork:
			if f.data.Version < 90200 && f.check(true, func(string) {}) != nil {
				return true, p.fileLeftover(ctx, f)
			}
		}
	}
	return false, nil
}

// left is where h ceases to share tl: at the lowest switch point from tl's own
// on, as a recovery that aims at a timeline may end before that one begins.
func left(h walname.History, tl walname.Timeline) (lowest walname.Ancestor, ok bool) {
	lowest, ok = h.Ancestor(tl)
	for _, a := range h.Ancestors {
		if ok && a.Timeline > tl && a.Exact() && lowest.Exact() && a.Switch < lowest.Switch {
			lowest = a
		}
	}
	return lowest, ok
}

type side int

const (
	beforeFork side = iota
	atFork          // the fork lies within the segment
	pastFork
)

// side tells where f lies from the point at which h left f's timeline.
func (f *file) side(h walname.History, a walname.Ancestor) side {
	s := f.name.Segment
	if a.Exact() {
		switch {
		case f.geometry.End(s) <= a.Switch:
			return beforeFork
		case f.geometry.Start(s) < a.Switch:
			return atFork
		}
		return pastFork
	}
	switch n, fork := f.geometry.Number(s), f.geometry.Number(a.SwitchSegment); {
	case n < fork:
		return beforeFork
	case n > fork:
		return pastFork
	}
	// The history file of 9.0 to 9.2 names the same segment for a fork at its
	// very end, after which it is complete. The new timeline then begins with
	// the next segment instead of a copy of this one.
	copied := walname.Segment{Timeline: h.Timeline, Log: s.Log, Seg: s.Seg}
	if _, err := os.Stat(filepath.Join(f.data.WALDir(), copied.String())); err == nil {
		return atFork
	}
	if next, ok := f.geometry.Next(copied); ok {
		if _, err := os.Stat(filepath.Join(f.data.WALDir(), next.String())); err == nil {
			return beforeFork
		}
	}
	return atFork
}

// fileUnfinished stores the unfinished segment as .partial, as 9.5 does, unless
// this very content is archived under its full name already.
func (p *Pusher) fileUnfinished(ctx context.Context, f *file) error {
	if err := f.check(p.HeaderCheck, p.Warn); err != nil {
		return p.unlessSetAside(ctx, f, err)
	}
	found, _, err := p.compare(ctx, f, p.lookup(ctx, f, f.cluster.Stem(f.name)), false)
	if err != nil {
		return err
	}
	if found == same {
		_, err := p.identity(ctx, f.cluster)
		return err
	}
	partial := f.as(walname.KindPartial)
	if err := p.storePartial(ctx, partial); err != nil {
		return err
	}
	p.Warn(fmt.Sprintf("%s is the unfinished last segment of a timeline that this server has left; it is archived as %s", f.name, partial.name))
	return nil
}

// fileLeftover stores a recycled segment under refused/.
func (p *Pusher) fileLeftover(ctx context.Context, f *file) error {
	kept, err := p.storeAside(ctx, f)
	if err != nil {
		return err
	}
	p.Warn(fmt.Sprintf("%s is no WAL of its timeline, which this server has left: a recycled segment, as 9.0 and 9.1 leave them; it is kept as %s", f.name, kept))
	return nil
}

// storeAside stores the content under refused/.
func (p *Pusher) storeAside(ctx context.Context, f *file) (storedAs string, err error) {
	sum, err := f.sum()
	if err != nil {
		return "", err
	}
	if _, err := p.identity(ctx, f.cluster); err != nil {
		return "", err
	}
	if err := p.Store.Mkdir(ctx, f.cluster.Refused()); err != nil {
		return "", err
	}
	stem := f.cluster.SetAside(f.name, sum)
	storedAs, err = p.store(ctx, f, stem)
	if errors.Is(err, ErrConflict) {
		return "", fmt.Errorf("%s is taken by other content: %w", stem, err)
	}
	return storedAs, err
}
