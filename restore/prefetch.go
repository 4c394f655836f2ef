package restore

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"walship/internal/async"
	"walship/internal/hugepage"
	"walship/internal/layout"
	"walship/internal/stored"
	"walship/transport"
	"walship/walname"
)

// Bounds of the work ahead.
const (
	// prefetchMost is how many segments are kept ahead of one server at most.
	prefetchMost = 16

	// prefetchIdle is how long a server may ask for nothing before what is kept
	// for it is given up.
	prefetchIdle = 30 * time.Second

	// prefetchAtOnce is how many segments are on their way for one server at once,
	// the next ones first: on a thin line the one that is asked for must not wait
	// for all of them.
	prefetchAtOnce = 4

	// prefetchPatience is how long the segment that is asked for shares the line
	// with those behind it.
	prefetchPatience = 5 * time.Second

	// historiesAge is how old the list of newer timelines may be that the fork
	// guard goes by, for a server in archive recovery: it has chosen its timeline
	// when it started and looks for no other, so that what the guard learns a
	// second later it might as well have learnt a second later of all. A standby
	// does look, and gets a list that was read after it asked.
	historiesAge = time.Second
)

// Prefetcher answers servers as a Fetcher does, and works ahead: from the
// segments that a recovering server asks for it sees where recovery goes, along
// the timeline histories, and keeps the next segments in memory, decoded and
// checked. Nothing of them is on disk. That a file is absent, or could not be
// had, is never kept: then the archive is asked anew. All guards hold.
//
// It may be used concurrently.
type Prefetcher struct {
	// Fetcher does the work; its Warn is not used.
	Fetcher *Fetcher

	// Memory bounds the content that is kept, in bytes, for all servers together.
	Memory int64

	mu      sync.Mutex
	held    int64
	spare   [][]byte // buffers of segments that have been delivered, all of one size
	servers map[serverKey]*server
	closed  bool
	stats   PrefetchStats
}

// PrefetchStats counts segments since the beginning, and what is kept now.
type PrefetchStats struct {
	Fetched int   `json:"fetched"`    // before they were asked for
	Used    int   `json:"used"`       // kept, and then asked for
	Held    int64 `json:"held_bytes"` // now
}

// Get answers as Fetcher.Get does.
func (p *Prefetcher) Get(ctx context.Context, r Request, warn func(string), begin func() (io.Writer, error)) error {
	f := *p.Fetcher
	f.Warn = warn
	name, err := walname.Parse(r.Name)
	if err != nil || name.Kind != walname.KindSegment || r.Data == nil || r.Data.Geometry().Check(name.Segment) != nil {
		return f.Get(ctx, r, begin)
	}
	q := f.question(ctx, r, name, layout.Cluster{SystemID: r.Data.Control.SystemID}, begin)
	if !q.recovering() || q.rewinding() {
		return f.Get(ctx, r, begin)
	}
	s := p.server(r.Data)
	if s == nil {
		return f.Get(ctx, r, begin)
	}
	defer s.rest()
	newer := s.histories(q)
	q.newer = func() ([]walname.History, error) { return newer.WaitFor(ctx) }
	if k := s.take(name.Segment); k != nil {
		defer func() {
			select {
			case <-k.done:
				p.give(k)
			default: // it may stand behind others that hang
				go p.give(k)
			}
		}()
		alone := time.AfterFunc(prefetchPatience, s.drop)
		defer alone.Stop()
		select {
		case <-k.done:
			alone.Stop()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if k.err == nil && k.seg == name.Segment {
			s.delivered(q) // the next ones can be on their way while this one is written
			if err := q.guardFork(ctx); err != nil {
				return err
			}
			if err := q.write(k.data); err != nil {
				return err
			}
			p.count(0, 1)
			return nil
		}
	}
	if err := f.Get(ctx, r, begin); err != nil {
		return err
	}
	s.delivered(q)
	return nil
}

// write hands over content that has been checked.
func (q *question) write(data []byte) error {
	to, err := q.begin()
	if err == nil {
		_, err = to.Write(data)
	}
	if err != nil {
		return errors.Join(ErrLocal, err)
	}
	return nil
}

// Stats tells what there has been, and what is kept.
func (p *Prefetcher) Stats() PrefetchStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.Held = p.held
	return s
}

// Close gives up all that is kept.
func (p *Prefetcher) Close() {
	p.mu.Lock()
	p.closed = true
	servers := p.servers
	p.servers = nil
	p.mu.Unlock()
	for _, s := range servers {
		s.drop()
	}
}

func (p *Prefetcher) count(fetched, used int) {
	p.mu.Lock()
	p.stats.Fetched += fetched
	p.stats.Used += used
	p.mu.Unlock()
}

// room takes the memory for a segment of size bytes; nil if there is none.
func (p *Prefetcher) room(size int64) *kept {
	p.mu.Lock()
	defer p.mu.Unlock()
	if size <= 0 || p.held+size > p.Memory || p.closed {
		return nil
	}
	p.held += size
	k := &kept{done: make(chan struct{}), room: size}
	n := len(p.spare)
	switch {
	case n > 0 && int64(cap(p.spare[0])) == size:
		k.data, p.spare = p.spare[n-1], p.spare[:n-1]
	case n > 0: // another cluster's
		p.spare = nil
	}
	return k
}

// give gives back what is kept, once nothing writes to it any more.
func (p *Prefetcher) give(k *kept) {
	k.cancel()
	<-k.done
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held -= k.room
	same := cap(k.data) > 0 && (len(p.spare) == 0 || cap(p.spare[0]) == cap(k.data)) // none if it was given up before it began
	if same && p.held+int64(len(p.spare)+1)*k.room <= p.Memory && !p.closed {
		p.spare = append(p.spare, k.data[:0])
	}
	k.data = nil
}

// load reads a segment of the archive into memory, and checks it.
func (p *Prefetcher) load(ctx context.Context, k *kept, asked *question, seg walname.Segment) {
	defer close(k.done)
	if k.err = ctx.Err(); k.err != nil {
		return // given up before it began
	}
	k.seg = seg
	f := *p.Fetcher
	f.Warn = func(string) {}
	name := walname.Name{Kind: walname.KindSegment, Segment: seg}
	r := asked.Request
	r.Name = name.String()
	if cap(k.data) == 0 {
		k.data = make([]byte, 0, k.room)
		hugepage.Advise(k.data[:k.room])
	}
	q := f.question(ctx, r, name, asked.cluster, func() (io.Writer, error) {
		k.data = k.data[:0]
		return writerFunc(func(b []byte) (int, error) {
			if len(k.data)+len(b) > cap(k.data) {
				return 0, io.ErrShortBuffer
			}
			k.data = append(k.data, b...)
			return len(b), nil
		}), nil
	})
	k.err = q.load(ctx)
	if k.err == nil {
		p.count(1, 0)
	}
}

// load reads walship's own copy. Whether the server may have it is for later.
func (q *question) load(ctx context.Context) error {
	open := func(codec stored.Codec) (string, *async.Result[transport.File]) {
		stow := q.cluster.Stem(q.name) + codec.Extension()
		return stow, async.Go(func() (transport.File, error) { return q.Store.Open(ctx, stow) })
	}
	guess := stored.Zstd
	stow, opening := open(guess)
	id, err := q.identity(ctx, q.cluster)
	if err == nil && id.SegmentSize != q.size() {
		err = ErrArchive
	}
	remote, failed := opening.Wait()
	if codec := stored.Of(id.Codec, id.Sealed()); err == nil && codec != guess {
		if failed == nil {
			_ = remote.Close()
		}
		stow, opening = open(codec)
		remote, failed = opening.Wait()
	}
	if failed != nil {
		return failed
	}
	defer remote.Close()
	if err != nil {
		return err
	}
	return q.deliver(ctx, stow, remote)
}
