package archive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"walship/internal/layout"
	"walship/internal/pgdata"
	"walship/internal/stored"
	"walship/transport"
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
	// uploaded for it and not published is given up; and how old the knowledge
	// may be that a segment has been published.
	aheadIdle = time.Minute

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
	if j := l.asked(n); j != nil {
		done, err := l.await(ctx, j, file)
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
	l.idle.Reset(aheadIdle)
	l.mu.Unlock()
	return l
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

// line is what waits for one server's archiver.
type line struct {
	a    *Ahead
	idle *time.Timer // gives up what is not asked for

	mu     sync.Mutex
	moved  sync.Cond // order or published has changed
	data   *pgdata.Dir
	order  []walname.Name // what waits, from what is being asked for on
	looked time.Time      // when order was read
	jobs   map[walname.Name]*early
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

// pushed is what is known of a file that was published ahead.
type pushed struct {
	identity   identity
	sure       bool // the identity cannot be that of other content
	sum        [32]byte
	connection uint64
	at         time.Time
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
	var connection uint64
	j.pushed, j.err = p.pushAhead(ctx, data, j.name, l.a.encoding, func() error {
		err := l.turn(ctx, j)
		connection = l.a.connection()
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
		if at >= 0 && !slices.ContainsFunc(front, func(n walname.Name) bool { return l.jobs[n] == nil || !l.jobs[n].published }) {
			return nil
		}
		l.moved.Wait()
	}
}

// await waits for the job of the file that is being asked for. done means that
// this very content is in the archive, on stable storage; without it and without
// an error the call has to push the file itself.
func (l *line) await(ctx context.Context, j *early, file string) (done bool, err error) {
	select {
	case <-j.done:
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	switch {
	case errors.Is(j.err, transport.ErrUnreachable):
		return false, j.err // it has had its time
	case j.err != nil, j.pushed.connection == 0, j.pushed.connection != l.a.connection(), time.Since(j.pushed.at) > aheadIdle:
		return false, nil
	}
	same, err := j.pushed.is(file)
	if !same || err != nil {
		return false, nil // what is wrong with the file, the push says
	}
	l.a.count(0, 1)
	return true, nil
}

// answered tells the line that n is in the archive.
func (l *line) answered(n walname.Name) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at := slices.Index(l.order, n); at >= 0 {
		for _, before := range l.order[:at+1] {
			delete(l.jobs, before)
		}
		l.order = l.order[at+1:]
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

// is reports whether the file at path is the one that was pushed.
func (p pushed) is(path string) (bool, error) {
	info, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	id, known := identityOf(info)
	if known && id != p.identity {
		return false, nil
	}
	if known && p.sure {
		return true, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	sum, err := (&file{f: f, size: info.Size()}).sum()
	return err == nil && sum == p.sum, err
}

// errNotAhead says that a file is the archiver's to hand over.
var errNotAhead = errors.New("not to be pushed ahead")

// pushAhead stores a segment that nobody has asked for yet, once it is its turn.
// Nil is Push's. Whatever is not plain sailing is an error and changes nothing
// in the archive: Push deals with it when the archiver hands the segment over.
func (p *Pusher) pushAhead(ctx context.Context, data *pgdata.Dir, n walname.Name, encoding *semaphore.Weighted, turn func() error) (done pushed, err error) {
	f, err := openFile(data, data.WALDir()+"/"+n.String(), n.String())
	if err != nil {
		return done, err
	}
	defer f.close()
	if data.Version < 90500 { // see filed
		if histories, err := data.Histories(); err != nil || len(histories) > 0 {
			return done, errNotAhead
		}
	}
	if err := f.check(p.HeaderCheck, p.Warn); err != nil {
		return done, err
	}
	// The memory is taken before the file is read, and given back when it has
	// gone out, not when it is published.
	if err := encoding.Acquire(ctx, 1); err != nil {
		return done, err
	}
	release := sync.OnceFunc(func() { encoding.Release(1) })
	defer release()

	began := time.Now()
	if done.identity, done.sure, err = f.identityNow(began); err != nil {
		return done, err
	}
	confirm := func() error {
		release()
		return turn()
	}
	stem := f.cluster.Stem(f.name)
	codec := p.Codec
	for range 2 { // once more if the archive's codec is another one
		look := p.lookup(ctx, f, stem)
		if codec == stored.Plain {
			if err := p.vouch(ctx, f, stem, look); err != nil {
				return done, err
			}
		}
		done.sum, err = p.put(ctx, f, stem, codec, look, confirm)
		if guess := (errCodec{}); errors.As(err, &guess) || errors.As(look.owner(codec), &guess) {
			codec = guess.codec
			continue
		}
		break
	}
	if err != nil {
		return done, err
	}
	// What changed while it was read is not what the archive has.
	if after, _, err := f.identityNow(began); err != nil || after != done.identity {
		return done, errNotAhead
	}
	return done, nil
}

// identityNow is the open file's identity. sure means that it was last changed
// long enough before now for a later change to have another time.
func (f *file) identityNow(now time.Time) (id identity, sure bool, err error) {
	info, err := f.f.Stat()
	if err != nil {
		return id, false, fmt.Errorf("%w: %w", ErrLocal, err)
	}
	id, known := identityOf(info)
	grain := 100 * time.Millisecond
	if id.changed.Nanosecond() == 0 { // a file system that counts in seconds, or in two of them
		grain = 3 * time.Second
	}
	return id, known && now.Sub(id.changed) > grain, nil
}
