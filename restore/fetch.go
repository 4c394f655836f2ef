package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"walship/internal/async"
	"walship/internal/fault"
	"walship/internal/layout"
	"walship/internal/stored"
	"walship/transport"
	"walship/walname"
)

// Fetch delivers the file to r.Path. Nil means that it is there, whole, synced,
// and what was once pushed: its length, its SHA-256, its name, its cluster and
// the header of its first page have been compared. Otherwise r.Path is untouched.
func (f *Fetcher) Fetch(ctx context.Context, r Request) error {
	d := NewDelivery(r.Path)
	defer d.Discard()
	if err := f.Get(ctx, r, d.Begin); err != nil {
		return err
	}
	return d.Place()
}

// Get is Fetch without the delivery: the content goes to what begin returns,
// and is whole and checked only once Get has returned nil. Where one copy turns
// out to be damaged begin is called again, for another one, and what was written
// before is void. r.Path is not touched; it tells who asks.
//
// One flight of requests asks for the archive's identity, for the file in every
// place and under every extension, and for the newer timelines.
func (f *Fetcher) Get(ctx context.Context, r Request, begin func() (io.Writer, error)) error {
	name, err := walname.Parse(r.Name)
	if err != nil {
		return transport.WithHint(fmt.Errorf("%w: %w", ErrName, err),
			"restore_command passes the name as %f and the path as %p: walship fetch %f %p")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	cluster, err := f.cluster(ctx, r)
	if err != nil {
		return err
	}
	q := f.question(ctx, r, name, cluster, begin)
	identity := async.Go(func() (layout.Identity, error) { return f.identity(ctx, cluster) })
	copies := q.open(ctx, q.places())
	defer copies.close()
	q.newer = async.Go(func() ([]walname.History, error) { return q.newerHistories(ctx) })

	id, err := identity.Wait()
	switch {
	case err == nil:
		q.segmentSize = id.SegmentSize
		if own := q.size(); own != id.SegmentSize {
			return transport.WithHint(
				fmt.Errorf("%w: its segments have %d bytes, those of this cluster %d", ErrArchive, id.SegmentSize, own),
				"after pg_resetwal --wal-segsize a cluster has an archive of its own")
		}
	case errors.Is(err, fs.ErrNotExist):
		// Perhaps a folder that another tool has filled.
		if err := q.flat(ctx); err != nil && !fault.Skip("fetch.identity") {
			return err
		}
	default:
		return err
	}
	found, err := q.deliverFirst(ctx, copies)
	if found || err != nil {
		return err
	}
	if err := q.guardGap(ctx); err != nil {
		return err
	}
	if id.SystemID != 0 {
		if err := q.kept(ctx); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: %s", ErrNotThere, name)
}

// question is a Request while it is being answered.
type question struct {
	*Fetcher
	Request
	begin       func() (io.Writer, error)
	name        walname.Name
	cluster     layout.Cluster
	segmentSize int64 // of the archive; 0 if it says nothing

	// ours reports whether the flat files in the root are this cluster's.
	ours func() (bool, error)

	// newer are the histories of the timelines above the file's own.
	newer *async.Result[[]walname.History]
}

func (f *Fetcher) question(ctx context.Context, r Request, name walname.Name, cluster layout.Cluster, begin func() (io.Writer, error)) *question {
	q := &question{Fetcher: f, Request: r, name: name, cluster: cluster, begin: begin}
	q.ours = sync.OnceValues(func() (bool, error) { return q.flatIsOurs(ctx) })
	return q
}

// deliverFirst delivers the first sound copy, and reports whether there is any.
// A damaged one is passed over for the next; if none is sound, the first one's
// error is returned.
func (q *question) deliverFirst(ctx context.Context, copies *copies) (found bool, err error) {
	var damage error
	for _, c := range copies.all {
		remote, err := c.file.Wait()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return true, err
		}
		if isFlat(c.name) {
			ours, err := q.ours()
			if err != nil {
				return true, err
			}
			if !ours {
				continue
			}
		}
		if err := q.guardFork(ctx); err != nil {
			return true, err
		}
		err = q.deliver(ctx, c.name, remote)
		if err == nil && damage != nil {
			q.Warn(fmt.Sprintf("delivered %s from %s, as another copy is damaged: %v", q.name, c.name, damage))
		}
		if !errors.Is(err, stored.ErrDamaged) {
			return true, err
		}
		if damage == nil {
			damage = err
		}
	}
	return damage != nil, damage
}
