package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"golang.org/x/sync/errgroup"

	"walship/internal/async"
	"walship/internal/basebackup"
	"walship/internal/stored"
	"walship/transport"
	"walship/walname"
)

// WALWait tells what a backup waits for.
type WALWait struct {
	Missing string        // the first WAL file that is not in the archive
	Since   time.Duration // for how long it has been waited
	Err     error         // why the archive could not be asked, if it could not
}

// askAtOnce is how many segments are asked for together.
const askAtOnce = 16

// How often the archive is asked while a segment is missing: often at first, as
// the server archives it in a moment.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
)

// waitWAL waits until all WAL that recovery of the backup needs to become
// consistent is in the archive: nil means that every segment from its start to
// its end is there, each with a record of its own that fits.
func (r *backupRun) waitWAL(ctx context.Context, end basebackup.End) error {
	began := time.Now()
	var need []walname.Segment // those not yet seen
	ask := func() (missing string, err error) {
		if need == nil {
			if need, missing, err = r.needs(ctx, end); missing != "" || err != nil {
				return missing, err
			}
		}
		for len(need) > 0 {
			some := need[:min(len(need), askAtOnce)]
			n, err := r.archived(ctx, some)
			if need = need[n:]; err != nil || n < len(some) {
				return need[0].String(), err
			}
		}
		return "", nil
	}
	for pause := firstPause; ; pause = min(pause*3/2, lastPause) {
		missing, err := ask()
		if missing == "" && err == nil {
			return nil
		}
		if err != nil && !errors.Is(err, transport.ErrUnreachable) {
			return err
		}
		if since := time.Since(began); since >= r.WALLimit {
			what := fmt.Errorf("%w: %s has not come within %s", ErrWAL, missing, since.Round(time.Second))
			if err != nil {
				what = fmt.Errorf("%w: the archive could not be asked: %w", what, err)
			}
			return what
		} else if r.Waiting != nil {
			r.Waiting(WALWait{missing, since, err})
		}
		select {
		case <-time.After(min(pause, r.WALLimit)):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// needs lists the segments from the backup's start to its end. If a standby has
// gone on to another timeline meanwhile, its history tells which timeline each is
// of; missing is then the history file, as long as that is not archived.
func (r *backupRun) needs(ctx context.Context, end basebackup.End) (need []walname.Segment, missing string, err error) {
	first := r.geometry.Number(r.id.Start)
	last := first
	if end.EndLSN > r.info.StartLSN {
		last = r.geometry.Number(r.geometry.At(end.Timeline, end.EndLSN-1))
	}
	history := walname.History{Timeline: end.Timeline}
	if end.Timeline != r.info.Timeline {
		name := walname.Name{Kind: walname.KindHistory, Segment: walname.Segment{Timeline: end.Timeline}}
		history, err = r.history(ctx, name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, name.String(), nil
		}
		if err != nil {
			return nil, name.String(), err
		}
		if _, ok := history.Ancestor(r.info.Timeline); !ok {
			return nil, "", fmt.Errorf("the server ended the backup on timeline %d, which does not descend from timeline %d, where it began", end.Timeline, r.info.Timeline)
		}
	}
	for n := first; n <= last; n++ {
		need = append(need, r.geometry.FromNumber(r.timeline(history, n), n))
	}
	return need, "", nil
}

// timeline is the one that recovery reads the segment of that number from: the
// newest that had begun when the segment ended.
func (r *backupRun) timeline(h walname.History, number uint64) walname.Timeline {
	for _, a := range h.Ancestors {
		fork := a.SwitchSegment
		if a.Exact() {
			fork = r.geometry.At(a.Timeline, a.Switch)
		}
		if a.Timeline >= r.info.Timeline && number < r.geometry.Number(fork) {
			return a.Timeline
		}
	}
	return h.Timeline
}

// archived tells how many of the segments, from the first on, are in the archive.
func (r *backupRun) archived(ctx context.Context, segments []walname.Segment) (int, error) {
	there := make([]bool, len(segments))
	g, ctx := errgroup.WithContext(ctx)
	for i, s := range segments {
		g.Go(func() (err error) {
			_, err = r.find(ctx, walname.Name{Kind: walname.KindSegment, Segment: s})
			if there[i] = err == nil; errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		})
	}
	err := g.Wait()
	for i, ok := range there {
		if !ok {
			return i, err
		}
	}
	return len(segments), err
}

// find returns the name under which a WAL file is stored, under any extension.
// It is absent (fs.ErrNotExist) if there is none, and stored.ErrDamaged if its
// record does not fit.
func (r *backupRun) find(ctx context.Context, n walname.Name) (string, error) {
	p := &Pusher{Store: r.Store}
	f := &file{name: n, cluster: r.cluster, geometry: r.geometry, size: r.geometry.SegmentSize}
	for _, codec := range stored.Written() {
		name := r.cluster.Stem(n) + codec.Extension()
		_, err := p.storedSum(ctx, f, name, async.Go(func() (transport.Head, error) {
			return r.Store.Head(ctx, name, stored.HeadSize)
		}))
		if errors.Is(err, stored.ErrDamaged) {
			return "", fmt.Errorf("%s, which the backup needs: %w", name, err)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return name, err
		}
	}
	return "", &fs.PathError{Op: "find", Path: r.cluster.Stem(n), Err: fs.ErrNotExist}
}

// history reads a history file out of the archive.
func (r *backupRun) history(ctx context.Context, n walname.Name) (walname.History, error) {
	name, err := r.find(ctx, n)
	if err != nil {
		return walname.History{}, err
	}
	remote, err := r.Store.Open(ctx, name)
	if err != nil {
		return walname.History{}, err
	}
	defer remote.Close()
	content, err := stored.Decode(stored.Source(remote), remote.Size(), stored.CodecOf(name), maxSmall)
	if err != nil {
		return walname.History{}, fmt.Errorf("%s: %w", name, err)
	}
	defer content.Close()
	data, err := io.ReadAll(content)
	if err != nil {
		return walname.History{}, fmt.Errorf("%s: %w", name, err)
	}
	return walname.ParseHistory(n.Timeline(), data)
}
