package archive

import (
	"context"
	"errors"
	"fmt"
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
	lastPause  = 2 * time.Second
)

// waitWAL waits until all WAL that recovery of the backup needs to become
// consistent is in the archive: nil means that every segment from its start to
// its end is there, each with a record of its own that fits.
func (r *backupRun) waitWAL(ctx context.Context, end basebackup.End) error {
	began := time.Now()
	need := r.needs(end) // those not yet seen
	ask := func() (missing string, err error) {
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
			if err != nil {
				return fmt.Errorf("whether %s, which the backup needs, is in the archive could not be found out within %s: %w", missing, r.WALLimit, err)
			}
			return fmt.Errorf("%w: %s has not come within %s", ErrWAL, missing, r.WALLimit)
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

// needs lists the segments from the backup's start to its end.
func (r *backupRun) needs(end basebackup.End) (need []walname.Segment) {
	last := r.geometry.Number(r.id.Start)
	if end.EndLSN > r.info.StartLSN {
		last = r.geometry.Number(r.geometry.At(end.Timeline, end.EndLSN-1))
	}
	for n := r.geometry.Number(r.id.Start); n <= last; n++ {
		need = append(need, r.geometry.FromNumber(end.Timeline, n))
	}
	return need
}

// archived tells how many of the segments, from the first on, are in the archive.
func (r *backupRun) archived(ctx context.Context, segments []walname.Segment) (int, error) {
	there := make([]bool, len(segments))
	g, ctx := errgroup.WithContext(ctx)
	for i, s := range segments {
		g.Go(func() (err error) {
			there[i], err = r.segment(ctx, s)
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

// segment reports whether a segment is in the archive, under any extension. One
// whose record does not fit is an error that wraps stored.ErrDamaged.
func (r *backupRun) segment(ctx context.Context, s walname.Segment) (bool, error) {
	p := &Pusher{Store: r.Store}
	n := walname.Name{Kind: walname.KindSegment, Segment: s}
	f := &file{name: n, cluster: r.cluster, geometry: r.geometry, size: r.geometry.SegmentSize}
	for _, codec := range stored.Written() {
		name := r.cluster.Stem(n) + codec.Extension()
		_, err := p.storedSum(ctx, f, name, async.Go(func() (transport.Head, error) {
			return r.Store.Head(ctx, name, stored.HeadSize)
		}))
		switch {
		case errors.Is(err, stored.ErrDamaged):
			return false, fmt.Errorf("%s, which the backup needs: %w", name, err)
		case !errors.Is(err, fs.ErrNotExist):
			return err == nil, err
		}
	}
	return false, nil
}
