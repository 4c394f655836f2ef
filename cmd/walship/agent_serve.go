package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"time"

	"walship/archive"
	"walship/internal/agent"
	"walship/internal/config"
	"walship/internal/crypt"
	"walship/internal/fault"
	"walship/internal/pgdata"
	"walship/restore"
	"walship/transport"
)

const (
	// agentSessions is how many SFTP sessions the agent may have: sshd allows 10 on
	// a login (MaxSessions), and more than these carry no more.
	agentSessions = 4

	// agentRenew is how old a login may become. What stands on the archive host in
	// the place of the archive, an old login to a chroot does not see.
	agentRenew = 5 * time.Minute

	// agentKeepAlive is how often an agent that has nothing to do asks the archive
	// for a sign of life: less than what firewalls and storage boxes take for idle.
	agentKeepAlive = 20 * time.Second

	// agentDrain is how long the agent may finish what is in hand when it ends.
	agentDrain = 30 * time.Second
)

// connected is what a store on a server tells of its connection.
type connected interface {
	Connection() uint64
	Quiet() time.Duration
	KeepAlive(ctx context.Context)
}

// worker does the work of calls. With several archives it keeps the connections
// and works no call ahead.
type worker struct {
	conf     *config.Config
	key      string
	archives []named
	to       *crypt.Recipients
	fetcher  *restore.Fetcher    // but for the archive
	ahead    *archive.Ahead      // nil with several archives
	before   *restore.Prefetcher // nil with several archives
	stop     func()              // ends the agent
	idle     time.Duration
	log      *agentLog
	began    time.Time

	mu    sync.Mutex
	calls map[string]int // by kind
	fails int
}

func newWorker(ctx context.Context, conf *config.Config, key string, log *agentLog, idle time.Duration, stop func()) (*worker, error) {
	to, err := recipients(conf)
	if err != nil {
		return nil, err
	}
	w := &worker{conf: conf, key: key, to: to, stop: stop, idle: idle, log: log, began: time.Now(), calls: make(map[string]int)}
	w.fetcher = &restore.Fetcher{Keys: keys(conf), ForkGuard: true, GapGuard: true, HeaderCheck: conf.HeaderCheck, Patience: conf.Silence, Sure: true}
	for _, one := range conf.Each() {
		s, err := openWith(ctx, one, transport.SSH{Silence: silencePatient, Redial: true, Sessions: agentSessions, Connections: conf.Connections, Renew: agentRenew})
		if err != nil {
			w.close()
			return nil, err
		}
		a := named{s, config.MaskURL(one.Archive), one}
		w.archives = append(w.archives, a)
		if remote := a.remote(); remote != nil {
			go w.watch(ctx, remote, a.name)
		}
	}
	if len(w.archives) == 1 {
		w.ahead = &archive.Ahead{Pusher: pushersOf(w.archives, to, nil)[0]}
		w.ahead.Pusher.CloneGuard = true
		w.before = &restore.Prefetcher{Fetcher: fetchersOf(w.fetcher, w.archives)[0], Memory: conf.Prefetch}
		if remote := w.archives[0].remote(); remote != nil {
			w.ahead.Connection = remote.Connection
		}
	}
	return w, nil
}

// remote is the archive's connection, nil if it is a local folder.
func (a named) remote() connected {
	remote, _ := a.store.(connected)
	return remote
}

// watch keeps the connection alive and logs what becomes of it.
func (w *worker) watch(ctx context.Context, remote connected, name string) {
	var last uint64
	for tick := 0; ; tick++ {
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return
		}
		switch now := remote.Connection(); {
		case now == last:
		case now == 0:
			w.log.say("lost the connection to %s", name)
		default:
			w.log.say("connected to %s", name)
		}
		last = remote.Connection()
		if tick%int(agentKeepAlive/time.Second) == 0 {
			go remote.KeepAlive(ctx)
		}
	}
}

// close gives up what nobody waits for.
func (w *worker) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if w.ahead != nil {
		w.ahead.Close(ctx)
		w.before.Close()
	}
	closeAll(w.archives)
}

// handle does the work of one call.
func (w *worker) handle(ctx context.Context, r agent.Request, file *os.File) (answer agent.Reply) {
	var mu sync.Mutex
	var warnings []string
	warn := func(text string) {
		mu.Lock()
		warnings = append(warnings, limit(text))
		mu.Unlock()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if remote := w.archives[0].remote(); remote != nil && w.ahead != nil && hasty(r.Silence) {
		hurry(ctx, remote, r.Silence, cancel)
	}

	fault.At("agent.asked")
	var err error
	var size int64
	switch r.Kind {
	case kindPush:
		err = w.push(ctx, r, warn)
	case kindFetch:
		size, err = w.fetch(ctx, r, file, warn)
	case kindStatus:
		return w.status()
	case kindStop:
		w.log.say("asked to stop")
		w.stop()
		return agent.Reply{}
	default:
		err = usage("unknown request %q", r.Kind)
	}
	fault.At("agent.done")
	w.count(r, err)
	mu.Lock()
	defer mu.Unlock()
	answer = reply(err, warnings)
	answer.Size = size
	return answer
}

func (w *worker) push(ctx context.Context, r agent.Request, warn func(string)) error {
	data, err := openData(r)
	if err != nil {
		return err
	}
	if w.ahead != nil {
		return w.ahead.Push(ctx, data, r.Path, r.Name, warn)
	}
	pushers := pushersOf(w.hurried(ctx, r.Silence), w.to, warn)
	for _, p := range pushers {
		p.CloneGuard = true
	}
	return pushers.Push(ctx, data, r.Path, r.Name)
}

func (w *worker) fetch(ctx context.Context, r agent.Request, file *os.File, warn func(string)) (size int64, err error) {
	mode, ok := parseMode(r.Mode)
	if !ok || file == nil {
		return 0, usage("a fetch without a mode or a place to deliver to")
	}
	data, err := openData(r)
	if err != nil {
		return 0, err
	}
	to := &counter{}
	begin := func() (io.Writer, error) {
		_, err := file.Seek(0, io.SeekStart)
		*to = counter{w: file}
		return to, errors.Join(err, file.Truncate(0))
	}
	asked := restore.Request{Name: r.Name, Path: r.Path, Data: data, Mode: mode}
	if w.before != nil {
		err = w.before.Get(ctx, asked, warn, begin)
		return to.n, err
	}
	f := *w.fetcher
	f.Warn = warn
	err = fetchersOf(&f, w.hurried(ctx, r.Silence)).Get(ctx, asked, begin)
	return to.n, err
}

// openData opens the data directory of a call, if the agent sees the same one.
func openData(r agent.Request) (*pgdata.Dir, error) {
	place, err := agent.Place(r.Data)
	if err == nil && place != r.Place {
		err = errors.New("the agent sees another folder there than the call")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", pgdata.ErrNotDataDir, err)
	}
	return pgdata.Open(r.Data)
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// count keeps the books, and logs what an administrator may want to know of.
func (w *worker) count(r agent.Request, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls[r.Kind]++
	if err != nil && !errors.Is(err, restore.ErrNotThere) {
		w.fails++
		w.log.rarely("%s of %s: %v", r.Kind, r.Name, err)
	}
}

// agentStatus is what an agent tells of itself.
type agentStatus struct {
	Key      string                 `json:"key"`
	PID      int                    `json:"pid"`
	Version  string                 `json:"version"`
	Archives []archiveStatus        `json:"archives"`
	Since    time.Time              `json:"since"`
	Pushed   int                    `json:"pushed"`             // calls
	Fetched  int                    `json:"fetched"`            // calls
	Failed   int                    `json:"failed"`             // calls
	Ahead    *archive.AheadStats    `json:"ahead,omitempty"`    // with one archive
	Prefetch *restore.PrefetchStats `json:"prefetch,omitempty"` // with one archive
	Memory   uint64                 `json:"memory_bytes"`
	Threads  int                    `json:"goroutines"`
	Idle     string                 `json:"idle_limit,omitempty"` // it ends after so long without a call
}

type archiveStatus struct {
	URL       string `json:"url"`
	Connected *bool  `json:"connected,omitempty"` // absent: it is a local folder
}

func (w *worker) status() agent.Reply {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	w.mu.Lock()
	s := agentStatus{
		Key: w.key, PID: os.Getpid(), Version: version, Since: w.began.UTC().Truncate(time.Second),
		Pushed: w.calls[kindPush], Fetched: w.calls[kindFetch], Failed: w.fails,
		Memory: m.Sys - m.HeapReleased, Threads: runtime.NumGoroutine(),
	}
	w.mu.Unlock()
	if w.idle > 0 {
		s.Idle = config.FormatDuration(w.idle)
	}
	if w.ahead != nil {
		ahead, kept := w.ahead.Stats(), w.before.Stats()
		s.Ahead, s.Prefetch = &ahead, &kept
	}
	for _, a := range w.archives {
		one := archiveStatus{URL: a.name}
		if remote := a.remote(); remote != nil {
			up := remote.Connection() != 0
			one.Connected = &up
		}
		s.Archives = append(s.Archives, one)
	}
	text, err := json.Marshal(s)
	if err != nil {
		return reply(err, nil)
	}
	return agent.Reply{Status: text}
}

// agentLog is the agent's log: a line for each thing that is worth one.
type agentLog struct {
	v    *voice
	mu   sync.Mutex
	last time.Time
	left int // unsaid since
}

func (l *agentLog) say(format string, args ...any) {
	l.v.say("%s", time.Now().UTC().Format("2006-01-02 15:04:05")+" agent "+fmt.Sprint(os.Getpid())+": "+fmt.Sprintf(format, args...))
}

// rarely says it if nothing was said so for a while, for what comes in crowds.
func (l *agentLog) rarely(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.last) < 10*time.Second {
		l.left++
		return
	}
	if l.left > 0 {
		format += fmt.Sprintf(" (and %d more like it)", l.left)
	}
	l.last, l.left = time.Now(), 0
	l.say(format, args...)
}
