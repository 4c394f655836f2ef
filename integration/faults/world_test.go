//go:build linux

package faults_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh/knownhosts"

	"walship/archive"
	"walship/internal/layout"
	"walship/internal/pgdata"
	"walship/internal/stored"
	"walship/internal/testnet"
	"walship/internal/testsshd"
	"walship/transport"
)

// world is one history while it happens.
type world struct {
	t        testing.TB
	seed     uint64
	plan     plan
	systemID uint64
	root     string // of the archive
	host     *host
	sshd     *testsshd.Server
	actors   map[string]*actor
	model    *model
	fork     uint64 // the clone leaves the primary's line here
	miss     string // a segment that is not archived in this round

	skip   string // what the binary leaves out: a deliberately broken build
	limits limits
	agent  bool // the binary uses agents
	counts func(what string, n int)

	unmounting sync.Mutex
	unmounted  bool

	mu         sync.Mutex
	log        []string
	violations []violation
}

// violation is an invariant that did not hold.
type violation struct{ invariant, text string }

// actor is a server with a data directory of its own.
type actor struct {
	name     string
	dir      string
	mode     pgdata.Mode
	gate     *gate          // of a host of ours
	proxy    *testnet.Proxy // the gate's, or one before an sshd
	known    string
	url      string
	next     uint64 // the segment that it archives next
	timeline uint64
	agentDir string
}

// newWorld makes what the history begins with: an archive, and nothing in it.
func newWorld(t testing.TB, seed uint64, p plan) *world {
	t.Helper()
	w := &world{
		t: t, seed: seed, plan: p, model: newModel(), actors: map[string]*actor{}, limits: hasty,
		root: filepath.Join(t.TempDir(), "archive"), fork: firstSegment + 1 + seed%5,
		counts: func(string, int) {},
	}
	switch p.store {
	case "gate":
		w.host = newHost(t, false)
	case "recorded":
		w.host = newHost(t, true)
	case "sshd":
		w.sshd = testsshd.Start(t, testsshd.Options{Subsystem: testsshd.SFTPServer(t)})
	}
	for name, mode := range map[string]pgdata.Mode{
		"primary": pgdata.ByHand, "clone": pgdata.ByHand, "pruner": pgdata.ByHand, "standby": pgdata.Standby, "recovery": pgdata.ArchiveRecovery,
	} {
		a := &actor{name: name, mode: mode, next: firstSegment, timeline: 1}
		a.dir, w.systemID = newData(t, mode)
		switch {
		case w.host != nil:
			a.gate = w.host.newGate(name)
			a.proxy, a.known, a.url = a.gate.proxy, a.gate.known, a.gate.url(w.root)
			a.gate.arm(breakage{}, nil)
		case w.sshd != nil:
			a.proxy = testnet.New(t, w.sshd.Addr)
			a.known = filepath.Join(t.TempDir(), "known_hosts")
			line := knownhosts.Line([]string{a.proxy.Addr()}, w.sshd.HostKeys[0]) + "\n"
			must(t, os.WriteFile(a.known, []byte(line), 0o600))
			a.url = "sftp://" + net.JoinHostPort(w.sshd.User+"@127.0.0.1", strconv.Itoa(a.proxy.Port())) + w.root
		default:
			a.url = "file://" + w.root
		}
		w.actors[name] = a
	}
	// The archive is made before the film begins: its folders are safe.
	data, err := pgdata.Open(w.actors["primary"].dir)
	must(t, err)
	_, _, err = archive.Init(t.Context(), transport.NewLocal(w.root, transport.Full), data, stored.Zstd)
	must(t, err)
	return w
}

func (w *world) folder() string {
	return filepath.Join(w.root, layout.Cluster{SystemID: w.systemID}.Folder())
}

// stored is where the archive keeps a file.
func (w *world) stored(name string) string {
	if strings.HasSuffix(name, ".history") {
		return filepath.Join(w.folder(), "history", name+".zst")
	}
	return filepath.Join(w.folder(), "wal", name[:16], name+".zst")
}

// say keeps a line of the history, for the one who has to understand it.
func (w *world) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, fmt.Sprintf(format, args...))
}

// broken notes that an invariant did not hold.
func (w *world) broken(invariant, format string, args ...any) {
	v := violation{invariant, fmt.Sprintf(format, args...)}
	w.say("    BROKEN (%s): %s", v.invariant, v.text)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.violations = append(w.violations, v)
}

func (w *world) count(what string, n int) { w.counts(what, n) }

// run lets the history happen.
func (w *world) run() {
	w.say("archive: %s", w.plan.store)
	for i, round := range w.plan.rounds {
		w.say("round %d", i+1)
		w.round(round)
		w.settle()
		w.checkArchive()
		if len(w.violations) > 0 {
			return
		}
	}
	w.wellAgain()
	if w.plan.store == "recorded" && len(w.violations) == 0 {
		w.settle()
		w.checkPowerCuts(w.host.scratch)
	}
}

// round lets the steps of one round happen at the same time. Those that are to
// stop on their way do so first, and go on when the others have ended.
func (w *world) round(steps []step) {
	next := w.actors["primary"].next
	w.miss = segmentName(1, next+1)
	for _, s := range steps {
		a := w.actors[s.actor]
		if s.same {
			a.timeline, a.next, w.fork = 1, next, min(w.fork, next)
		}
		w.prepare(a, s)
	}
	var ends []func()
	for _, s := range steps {
		if strings.HasSuffix(s.at, "=stop") {
			ends = append(ends, w.begin(w.actors[s.actor], s))
		}
	}
	var all sync.WaitGroup
	for _, s := range steps {
		if !strings.HasSuffix(s.at, "=stop") {
			all.Go(func() { w.begin(w.actors[s.actor], s)() })
		}
	}
	all.Wait()
	for _, end := range ends {
		all.Go(end)
	}
	all.Wait()
}

// prepare arranges what goes wrong with a step.
func (w *world) prepare(a *actor, s step) {
	hook := func() { w.shake(a, s) }
	if a.gate != nil {
		a.gate.arm(s.wire, hook)
	}
	if s.world != "" && s.wire.kind != "world" {
		hook()
	}
	if s.line.kind == "" {
		return
	}
	w.count("line: "+s.line.kind, 1)
	switch s.line.kind {
	case "delay":
		a.proxy.SetDelay(s.line.d)
	case "cut":
		a.proxy.CutAfter(s.line.to, s.line.n)
	case "black hole":
		a.proxy.BlackHoleAfter(s.line.to, s.line.n)
	case "refuse":
		must(w.t, a.proxy.Refuse(true))
	case "half-open": // the server has gone and its answers with it
		a.proxy.BlackHoleAfter(testnet.ToClient, s.line.n/8)
	}
}

// shake lets something happen to the host.
func (w *world) shake(a *actor, s step) {
	w.count("world: "+s.world, 1)
	switch s.world {
	case "unmount":
		w.unmount()
	case "restart":
		switch {
		case w.host != nil:
			w.host.breakAll()
		case w.sshd != nil:
			w.sshd.KillSessions()
		}
	case "down":
		if w.host != nil {
			w.host.setDown(true)
			w.host.breakAll()
		}
	case "clock forward": // what is being written looks two days old now
		w.age(-48 * time.Hour)
	case "clock back":
		w.age(48 * time.Hour)
	}
}

// age is the archive host's clock jumping, as far as anybody can tell: the
// temporary files that there are have another age than before.
func (w *world) age(by time.Duration) {
	files, _ := filepath.Glob(filepath.Join(w.folder(), "tmp", "*")) // the pattern is well formed
	for _, path := range files {
		at := time.Now().Add(by)
		_ = os.Chtimes(path, at, at) // it may be gone by now
	}
}

// unmount takes the archive's folder away and leaves an empty one, as the mount
// point of a disk that is not mounted.
func (w *world) unmount() {
	w.unmounting.Lock()
	defer w.unmounting.Unlock()
	if w.unmounted {
		return
	}
	w.unmounted = true
	must(w.t, os.Rename(w.root, w.root+".away"))
	must(w.t, os.Mkdir(w.root, 0o750))
}

func (w *world) isUnmounted() bool {
	w.unmounting.Lock()
	defer w.unmounting.Unlock()
	return w.unmounted
}

// settle heals everything and waits until what was asked for is done.
func (w *world) settle() {
	for _, a := range w.actors {
		if a.proxy == nil {
			continue
		}
		a.proxy.CutAfter(testnet.ToServer, 1<<60)
		a.proxy.CutAfter(testnet.ToClient, 1<<60)
		a.proxy.Reset()
		a.proxy.BlackHole(false)
		a.proxy.SetDelay(0)
		must(w.t, a.proxy.Refuse(false))
	}
	switch {
	case w.host != nil:
		w.host.quiesce()
		w.host.setDown(false)
		for _, a := range w.actors {
			if a.gate.hasFired() {
				w.count("wire: "+a.gate.breakage.name(), 1)
			}
			a.gate.arm(breakage{}, nil)
		}
	case w.sshd != nil:
		for end := time.Now().Add(20 * time.Second); len(w.sshd.Processes()) > 0; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				w.sshd.KillSessions()
				break
			}
		}
	}
	w.unmounting.Lock()
	defer w.unmounting.Unlock()
	if w.unmounted {
		w.unmounted = false
		// Nothing may have been stored where the archive is not.
		must(w.t, os.Remove(w.root))
		must(w.t, os.Rename(w.root+".away", w.root))
	}
}

func (b breakage) name() string {
	if b.inject != "" {
		return "server's system call fails"
	}
	return b.kind
}

// wellAgain is the end of every history: nothing is wrong any more. What was
// acknowledged can be fetched, and the primary can go on archiving.
func (w *world) wellAgain() {
	w.limits = patient
	a := w.actors["primary"]
	s := step{actor: a.name, verb: "push"}
	if got := w.push(a, s, a.name, a.next); got.code != 0 && got.code != codeConflict {
		w.broken("a", "with everything well again the primary cannot archive: %s", got.said)
	}
	by := w.actors["pruner"] // whom no guard concerns
	for _, name := range w.model.known() {
		if !w.model.hasAcked(name) {
			continue
		}
		if got := w.fetch(by, step{actor: by.name, verb: "fetch"}, name); got.code != 0 {
			w.broken("a", "with everything well again %s, which was acknowledged, is not delivered: %s", name, got.said)
		}
	}
}

// open opens the archive in this process, as the command would.
func (w *world) open(ctx context.Context, a *actor) (archiveStore, error) {
	u, err := transport.ParseURL(a.url)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "file" {
		return transport.NewLocal(u.Path, transport.Full), nil
	}
	return transport.OpenSFTP(ctx, u, transport.SSH{KeyFile: w.key(), KnownHosts: a.known, Silence: w.limits.silence}, transport.Full), nil
}

// archiveStore is what pushing, fetching and pruning need.
type archiveStore interface {
	archive.PruneStore
	Close() error
}

func (w *world) key() string {
	switch {
	case w.host != nil:
		return w.host.keyFile
	case w.sshd != nil:
		return w.sshd.KeyFile
	}
	return ""
}
