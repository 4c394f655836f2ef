package restore

import (
	"context"
	"sync"
	"time"

	"walship/internal/async"
	"walship/internal/pgdata"
	"walship/walname"
)

// serverKey is one server.
type serverKey struct {
	path     string
	systemID uint64
}

// server is what is known of one server that recovers.
type server struct {
	p    *Prefetcher
	idle *time.Timer

	mu     sync.Mutex
	last   walname.Segment // that was delivered
	row    int             // how many were asked for in a row
	kept   map[walname.Segment]*kept
	next   []func()                         // loads that have not begun, in order
	loads  int                              // under way
	calls  int                              // under way
	newer  *async.Result[[]walname.History] // for the timeline newerT
	asked  time.Time                        // when newer was begun
	newerT walname.Timeline
}

// kept is a segment in memory, or on its way there.
type kept struct {
	cancel context.CancelFunc
	done   chan struct{}
	seg    walname.Segment // whose content it is; set by load
	err    error
	data   []byte
	room   int64
}

// server is that of the data directory, with one more call under way; nil if the
// Prefetcher has been closed.
func (p *Prefetcher) server(data *pgdata.Dir) *server {
	s := p.known(data)
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	s.idle.Stop()
	return s
}

func (p *Prefetcher) known(data *pgdata.Dir) *server {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	if p.servers == nil {
		p.servers = make(map[serverKey]*server)
	}
	key := serverKey{data.Path, data.Control.SystemID}
	s := p.servers[key]
	if s == nil {
		s = &server{p: p, kept: make(map[walname.Segment]*kept)}
		s.idle = time.AfterFunc(prefetchIdle, s.drop)
		p.servers[key] = s
	}
	return s
}

// rest ends a call; without any what is kept is given up after a while.
func (s *server) rest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls--; s.calls == 0 {
		s.idle.Reset(prefetchIdle)
	}
}

// histories are the newer timelines that the fork guard goes by.
func (s *server) histories(q *question) *async.Result[[]walname.History] {
	s.mu.Lock()
	defer s.mu.Unlock()
	age := time.Since(s.asked)
	if q.Mode != pgdata.ArchiveRecovery || s.newer == nil || s.newerT != q.name.Timeline() || age > historiesAge {
		s.newer, s.asked, s.newerT = q.askNewer(), time.Now(), q.name.Timeline()
	} else if age > historiesAge/4 {
		// In time for the next one.
		used := s.newer
		s.newer, s.asked = q.askNewer(), time.Now()
		return used
	}
	return s.newer
}

// askNewer asks for the newer timelines, independently of the call.
func (q *question) askNewer() *async.Result[[]walname.History] {
	own := *q
	ctx, cancel := context.WithTimeout(context.Background(), prefetchIdle)
	own.ours = sync.OnceValues(func() (bool, error) { return own.flatIsOurs(ctx) })
	return async.Go(func() ([]walname.History, error) {
		defer cancel()
		n, err := own.newerHistories(ctx)
		for _, why := range n.damaged {
			return nil, why
		}
		return n.histories, err
	})
}

// take returns what is kept of the segment, and leaves it to the caller.
func (s *server) take(seg walname.Segment) *kept {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.kept[seg]
	delete(s.kept, seg)
	return k
}

// delivered notes that the segment is being delivered, and sees to the next ones.
func (s *server) delivered(q *question) {
	line, _, err := q.line()
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if next, ok := q.next(s.last, line); ok && next == q.name.Segment {
		s.row++
	} else {
		s.row = 0
	}
	s.last = q.name.Segment
	if q.Mode == pgdata.Standby && s.row < 2 {
		return // one that streams asks once in a while
	}
	wanted := make(map[walname.Segment]bool)
	at := q.name.Segment
	for range prefetchMost {
		next, ok := q.next(at, line)
		if !ok {
			break
		}
		at = next
		wanted[at] = true
	}
	for seg, k := range s.kept {
		if !wanted[seg] || k.failed() { // what was absent may be there now
			delete(s.kept, seg)
			go s.p.give(k)
		}
	}
	at = q.name.Segment
	for range len(wanted) {
		at, _ = q.next(at, line)
		if s.kept[at] != nil {
			continue
		}
		k := s.p.room(q.size())
		if k == nil {
			break
		}
		ctx, cancel := context.WithCancel(context.Background())
		k.cancel = cancel
		s.kept[at] = k
		seg := at
		s.next = append(s.next, func() { s.p.load(ctx, k, q, seg) })
	}
	s.begin()
}

// begin begins the next loads, as many as may be under way. s.mu is held.
func (s *server) begin() {
	for s.loads < prefetchAtOnce && len(s.next) > 0 {
		load := s.next[0]
		s.next = s.next[1:]
		s.loads++
		go func() {
			load()
			s.mu.Lock()
			defer s.mu.Unlock()
			s.loads--
			s.begin()
		}()
	}
}

func (k *kept) failed() bool {
	select {
	case <-k.done:
		return k.err != nil
	default:
		return false
	}
}

// line is the newer timeline that recovery goes to, if there is one.
func (q *question) line() (h walname.History, ok bool, err error) {
	relevant, err := q.relevant()
	if err != nil || len(relevant) == 0 {
		return h, false, err
	}
	return relevant[len(relevant)-1], true, nil
}

// next is the segment that a server will ask for behind at: on the same
// timeline, or where line has left that, on the one that follows.
func (q *question) next(at walname.Segment, line walname.History) (walname.Segment, bool) {
	g := q.Data.Geometry()
	if g.Check(at) != nil {
		return at, false
	}
	next, ok := g.Next(at)
	here := *q
	here.name.Segment = at
	if fork, _, child, shares := here.shared(line); ok && shares && fork != 0 && g.Number(next) >= g.Number(g.At(at.Timeline, fork)) {
		next.Timeline = child
	}
	return next, ok
}

// drop gives up all that is kept for the server.
func (s *server) drop() {
	s.mu.Lock()
	all := s.kept
	s.kept = make(map[walname.Segment]*kept)
	s.row, s.newer = 0, nil
	s.mu.Unlock()
	for _, k := range all {
		k.cancel()
	}
	for _, k := range all {
		s.p.give(k)
	}
	s.p.mu.Lock()
	s.p.spare = nil
	s.p.mu.Unlock()
}
