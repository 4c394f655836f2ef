package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"walship/internal/pgdata"
	"walship/transport"
	"walship/walname"
)

// line is what waits for one server's archiver.
type line struct {
	a    *Ahead
	idle *time.Timer // gives up what is not asked for; stands while calls are under way

	mu     sync.Mutex
	moved  sync.Cond // order or published has changed
	data   *pgdata.Dir
	order  []walname.Name // what waits, from what is being asked for on
	looked time.Time      // when order was read
	jobs   map[walname.Name]*early
	calls  int // under way
}

// early is one segment that is pushed ahead.
type early struct {
	name      walname.Name
	cancel    context.CancelFunc
	published bool          // guarded by line.mu
	done      chan struct{} // closed when what follows is set
	err       error
	pushed    pushed
	warnings  []string
}

// asked tells the line that the archiver hands n over, and returns the job that
// has begun it, or nil.
func (l *line) asked(n walname.Name) *early {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := slices.Index(l.order, n)
	if at != 0 || time.Since(l.looked) > lookAgain {
		l.look(n)
	}
	for name, j := range l.jobs {
		// What failed for want of a connection, or before it was asked for, is
		// begun anew, the latter by its own call.
		if failed := j.failure(); failed != nil && (name == n || !errors.Is(failed, errNotAhead)) {
			delete(l.jobs, name)
		}
	}
	l.start()
	return l.jobs[n]
}

// publishedOn reports whether the job has published its segment, on the connection
// of that number. line.mu is held.
func (j *early) publishedOn(connection uint64) bool {
	return j != nil && j.published && j.pushed.connection == connection
}

// failure is the error of a job that has ended with one.
func (j *early) failure() error {
	select {
	case <-j.done:
		return j.err
	default:
		return nil
	}
}

// look reads the line anew, for n as what is being asked for. Where something
// waits that should have been handed over before n, nothing is pushed ahead.
func (l *line) look(n walname.Name) {
	ready, err := l.data.Ready()
	at := slices.Index(ready, n)
	switch {
	case err != nil || at != 0:
		l.order = []walname.Name{n}
	default:
		l.order = ready
	}
	l.looked = time.Now()
	for name, j := range l.jobs {
		if !slices.Contains(l.order, name) {
			j.cancel()
			delete(l.jobs, name)
		}
	}
	l.moved.Broadcast()
}

// start begins the next segments. What is no segment is the archiver's to hand
// over, and holds back what is behind it.
func (l *line) start() {
	for i, n := range l.order {
		if i > 0 && len(l.jobs) >= aheadMost || i > aheadMost {
			return
		}
		// The first one is being asked for: its own call pushes it.
		if i == 0 || n.Kind != walname.KindSegment || l.jobs[n] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(context.Background())
		j := &early{name: n, cancel: cancel, done: make(chan struct{})}
		l.jobs[n] = j
		go l.run(ctx, j, l.data)
	}
}

// run pushes one segment ahead.
func (l *line) run(ctx context.Context, j *early, data *pgdata.Dir) {
	defer close(j.done)
	defer j.cancel()
	p := *l.a.Pusher
	p.Warn = func(text string) { j.warnings = append(j.warnings, text) }
	connection := l.a.connection() // 0 if it is only made for this
	j.pushed, j.err = p.pushAhead(ctx, data, j.name, l.a.encoding, func() error {
		err := l.turn(ctx, j)
		if connection == 0 {
			connection = l.a.connection()
		}
		return err
	})
	if connection == l.a.connection() {
		j.pushed.connection = connection
	}
	if j.err != nil && !errors.Is(j.err, transport.ErrUnreachable) && ctx.Err() == nil {
		j.err = fmt.Errorf("%w: %w", errNotAhead, j.err)
	}
	j.pushed.at = time.Now()
	l.mu.Lock()
	j.published = j.err == nil
	l.moved.Broadcast()
	l.mu.Unlock()
	if j.err == nil {
		l.a.count(1, 0)
	}
}

// turn waits until everything in front of the job has been published.
func (l *line) turn(ctx context.Context, j *early) error {
	wake := context.AfterFunc(ctx, func() {
		l.mu.Lock()
		l.moved.Broadcast()
		l.mu.Unlock()
	})
	defer wake()
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		at := slices.Index(l.order, j.name)
		front := l.order[:max(at, 0)]
		connection := l.a.connection()
		if at >= 0 && !slices.ContainsFunc(front, func(n walname.Name) bool { return !l.jobs[n].publishedOn(connection) }) {
			return nil
		}
		l.moved.Wait()
	}
}

// await waits for the job of the file that is being asked for. done means that
// this very content is in the archive, on stable storage; without it and without
// an error the call has to push the file itself.
func (l *line) await(ctx context.Context, data *pgdata.Dir, j *early, file string) (done bool, err error) {
	select {
	case <-j.done:
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	switch {
	case errors.Is(j.err, transport.ErrUnreachable):
		return false, j.err // it has had its time
	case j.err != nil, j.pushed.connection == 0, j.pushed.connection != l.a.connection():
		return false, nil
	}
	same, err := j.pushed.is(file)
	if !same || err != nil {
		return false, nil // what is wrong with the file, the push says
	}
	if time.Since(j.pushed.at) > aheadTrust && !l.a.Pusher.confirms(ctx, data, file, j) {
		return false, nil
	}
	l.a.count(0, 1)
	return true, nil
}

// answered tells the line that n is in the archive.
func (l *line) answered(n walname.Name) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// What stands in front of n, if another call has overtaken the archiver, still
	// waits for its own.
	if at := slices.Index(l.order, n); at >= 0 {
		l.order = slices.Delete(l.order, at, at+1)
	}
	if j := l.jobs[n]; j != nil {
		j.cancel()
		delete(l.jobs, n)
	}
	l.moved.Broadcast()
}

// drop gives up everything and returns what was under way.
func (l *line) drop() (dropped []*early) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, j := range l.jobs {
		j.cancel()
		dropped = append(dropped, j)
	}
	l.jobs = make(map[walname.Name]*early)
	l.order = nil
	l.moved.Broadcast()
	return dropped
}
