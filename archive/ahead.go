package archive

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"walship/internal/layout"
	"walship/internal/pgdata"
	"walship/walname"
)

// Bounds of the work ahead.
const (
	// aheadMost is how many segments may be under way, or published and not yet
	// asked for, for one server.
	aheadMost = 12

	// aheadEncoding is how many segments at once may be in memory, read,
	// compressed and on their way, for all servers together.
	aheadEncoding = 4

	// aheadIdle is how long a server may ask for nothing before what has been
	// uploaded for it and not published is given up: longer than the minute after
	// which PostgreSQL asks again for what failed three times.
	aheadIdle = 3 * time.Minute

	// aheadTrust is how old the knowledge may be that a segment has been published.
	// Where it is older the archive is asked for its record of the segment: another
	// disk may have taken the place of the one that has it.
	aheadTrust = 2 * time.Second

	// lookAgain is how old the list of waiting segments may be.
	lookAgain = time.Second
)

// Ahead pushes for archivers, each of which hands over one file at a time, and
// works ahead of them: while one segment is pushed, the next ones that wait in
// archive_status are read, checked, compressed and uploaded, and published in
// the order in which the archiver would hand them over. A segment is not
// published before each of those in front of it has been. It leaves to the
// archiver's own call whatever is not simply a sound segment that the archive
// does not have. It may be used concurrently.
type Ahead struct {
	// Pusher does the work; its Warn is not used.
	Pusher *Pusher

	// Connection numbers the connection to the archive, 0 for none. What was
	// published on one is not taken for published once there is another: what
	// is behind it may be another disk. nil: the archive is a local folder.
	Connection func() uint64

	mu       sync.Mutex
	lines    map[lineKey]*line
	encoding *semaphore.Weighted
	closed   bool
	stats    AheadStats
}

// AheadStats counts segments since the beginning.
type AheadStats struct {
	Published int `json:"published"` // before they were asked for
	Used      int `json:"used"`      // published ahead and then asked for
}

// lineKey is one server's WAL.
type lineKey struct {
	path     string
	systemID uint64
}

// Push stores the file as Pusher.Push does. Where it has been pushed ahead, is
// still the same file, and lies behind the same connection, that is all.
func (a *Ahead) Push(ctx context.Context, data *pgdata.Dir, file, name string, warn func(string)) error {
	p := *a.Pusher
	p.Warn = warn
	n, err := walname.Parse(name)
	if err != nil || data == nil {
		return p.Push(ctx, data, file, name)
	}
	l := a.line(data)
	if l == nil {
		return p.Push(ctx, data, file, name)
	}
	defer l.rest()
	if j := l.asked(n); j != nil {
		done, err := l.await(ctx, data, j, file)
		if err != nil {
			return err
		}
		if done {
			for _, text := range j.warnings {
				warn(text)
			}
			l.answered(n)
			go p.sweep(context.WithoutCancel(ctx), layout.Cluster{SystemID: data.Control.SystemID}, n)
			return nil
		}
	}
	if err := p.Push(ctx, data, file, name); err != nil {
		return err
	}
	l.answered(n)
	return nil
}

// Stats tells what there has been.
func (a *Ahead) Stats() AheadStats {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stats
}

// Close gives up what nobody has asked for, and waits until its temporary files
// are gone or ctx has ended. Calls under way go on by themselves.
func (a *Ahead) Close(ctx context.Context) {
	a.mu.Lock()
	a.closed = true
	lines := a.lines
	a.lines = nil
	a.mu.Unlock()
	for _, l := range lines {
		for _, j := range l.drop() {
			select {
			case <-j.done:
			case <-ctx.Done():
			}
		}
	}
}

func (a *Ahead) line(data *pgdata.Dir) *line {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	if a.lines == nil {
		a.lines = make(map[lineKey]*line)
		a.encoding = semaphore.NewWeighted(aheadEncoding)
	}
	key := lineKey{data.Path, data.Control.SystemID}
	l := a.lines[key]
	if l == nil {
		l = &line{a: a, jobs: make(map[walname.Name]*early)}
		l.moved.L = &l.mu
		l.idle = time.AfterFunc(aheadIdle, func() { l.drop() })
		a.lines[key] = l
	}
	l.mu.Lock()
	l.data = data
	l.calls++
	l.idle.Stop()
	l.mu.Unlock()
	return l
}

// rest ends a call; without any the line is given up after a while.
func (l *line) rest() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls--; l.calls == 0 {
		l.idle.Reset(aheadIdle)
	}
}

func (a *Ahead) connection() uint64 {
	if a.Connection == nil {
		return 1
	}
	return a.Connection()
}

func (a *Ahead) count(published, used int) {
	a.mu.Lock()
	a.stats.Published += published
	a.stats.Used += used
	a.mu.Unlock()
}
