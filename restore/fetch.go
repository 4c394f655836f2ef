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
	return Fetchers{f}.Get(ctx, r, begin)
}

// ask sends the questions out. What they come to, answer tells.
func (q *question) ask(ctx context.Context) {
	found := async.Go(func() (none struct{}, err error) {
		q.cluster, err = q.Fetcher.cluster(ctx, q.Request)
		return none, err
	})
	q.own = async.Go(func() (newer, error) {
		if _, err := found.Wait(); err != nil {
			return newer{}, err
		}
		return q.newerHistories(ctx)
	})
	q.asked = async.Go(func() (bool, error) {
		if _, err := found.Wait(); err != nil {
			return false, err
		}
		return q.answer(ctx)
	})
}

// answer reports whether the archive has the file, as far as its folders tell. An
// error is doubt.
func (q *question) answer(ctx context.Context) (found bool, err error) {
	identity := async.Go(func() (layout.Identity, error) { return q.identity(ctx, q.cluster) })
	q.copies = q.open(ctx, q.places())
	q.id, err = identity.Wait()
	switch {
	case err == nil:
		q.segmentSize = q.id.SegmentSize
		q.copies.prefer(stored.Of(q.id.Codec, q.id.Sealed()))
		if own := q.size(); own != q.id.SegmentSize {
			return false, transport.WithHint(
				fmt.Errorf("%w: its segments have %d bytes, those of this cluster %d", ErrArchive, q.id.SegmentSize, own),
				"after pg_resetwal --wal-segsize a cluster has an archive of its own")
		}
	case errors.Is(err, fs.ErrNotExist):
		// Perhaps a folder that another tool has filled.
		if err := q.flat(ctx); err != nil && !fault.Skip("fetch.identity") {
			return false, err
		}
	default:
		return false, err
	}
	for _, c := range q.copies.all {
		_, err := c.file.Wait()
		if !errors.Is(err, fs.ErrNotExist) {
			return err == nil, err
		}
	}
	return false, nil
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

	// newer returns the histories of the timelines above the file's own.
	newer func() ([]walname.History, error)

	own    *async.Result[newer] // what this archive and the data directory know of them
	asked  *async.Result[bool]  // see answer, which sets what follows
	id     layout.Identity      // zero: a flat folder
	copies *copies

	several *several // nil: what is asked ahead of a server
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
