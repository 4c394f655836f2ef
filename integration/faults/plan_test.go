//go:build linux

package faults_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"walship/internal/testnet"
)

// plan is a history before it happens. All of it follows from the seed.
type plan struct {
	store  string // "gate", "recorded" (a gate whose sftp-servers are filmed), "sshd", "folder"
	rounds [][]step
}

// step is one call and what goes wrong with it. The steps of a round run at the
// same time, each of another actor.
type step struct {
	actor  string
	verb   string // push, fetch, prune, promote
	pick   int    // which file
	same   bool   // push what the primary pushes next, with other content
	binary bool   // the built binary; else its packages, in this process

	wire   breakage      // at the gate
	line   lineFault     // on the network
	at     string        // STEP=ACTION in the binary, see internal/fault
	inject string        // strace's expression for the binary
	world  string        // unmount, restart, down, clock forward, clock back; when wire is due, else at the beginning
	cancel time.Duration // the call is given up so much later, in this process
}

// lineFault is a fault of the network.
type lineFault struct {
	kind string // delay, cut, black hole, refuse, half-open
	to   testnet.Direction
	n    int64 // bytes until it begins
	d    time.Duration
}

func (s step) String() string {
	how := "in process"
	if s.binary {
		how = "binary"
	}
	var wrong []string
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if s.wire.kind != "" {
		say("%s at %s %d", s.wire.kind, s.wire.on, s.wire.nth)
	}
	if s.wire.inject != "" {
		say("server: %s", s.wire.inject)
	}
	if s.line.kind != "" {
		say("line: %s after %d bytes (direction %d), %s", s.line.kind, s.line.n, s.line.to, s.line.d)
	}
	if s.at != "" {
		say("%s", s.at)
	}
	if s.inject != "" {
		say("client: %s", s.inject)
	}
	if s.world != "" {
		say("world: %s", s.world)
	}
	if s.cancel != 0 {
		say("given up after %s", s.cancel)
	}
	return fmt.Sprintf("%s: %s %d, %s [%s]", s.actor, s.verb, s.pick, how, strings.Join(wrong, "; "))
}

// drawer draws a plan.
type drawer struct{ *rand.Rand }

func draw(seed uint64) plan {
	d := drawer{rand.New(rand.NewPCG(seed, 0))}
	p := plan{store: []string{"gate", "recorded", "folder", "sshd"}[d.weighted(14, 2, 3, 1)]}
	for n := 5 + d.IntN(6); len(p.rounds) < n; {
		late := len(p.rounds) >= 3 // by then there is something to take
		if late && d.chance(15) {
			p.rounds = append(p.rounds, d.duel(p.store))
			continue
		}
		var round []step
		actors := []string{"primary", "primary", "clone", "standby", "recovery"}
		if late {
			actors = append(actors, "recovery", "standby", "clone", "pruner")
		}
		d.Shuffle(len(actors), func(i, j int) { actors[i], actors[j] = actors[j], actors[i] })
		seen := map[string]bool{}
		for _, actor := range actors[:1+d.IntN(3)] {
			if !seen[actor] {
				seen[actor] = true
				round = append(round, d.step(actor, p.store, late))
			}
		}
		p.rounds = append(p.rounds, round)
	}
	return p
}

// duel draws a round in which the clone and the primary push different content
// under one name, at the same time.
func (d drawer) duel(store string) []step {
	round := []step{d.step("primary", store, false), d.step("clone", store, false)}
	round[1].same = true
	if d.chance(50) {
		round[d.IntN(2)].stopAt(d.oneOf("put.created", "put.written", "put.synced", "put.published"))
	}
	return round
}

// stopAt lets nothing go wrong with the step, but that the binary stops there.
func (s *step) stopAt(at string) {
	*s = step{actor: s.actor, verb: s.verb, same: s.same, binary: true, at: at + "=stop"}
}

// weighted draws an index.
func (d drawer) weighted(weights ...int) int {
	total := 0
	for _, w := range weights {
		total += w
	}
	n := d.IntN(total)
	for i, w := range weights {
		if n -= w; n < 0 {
			return i
		}
	}
	return 0 // cannot be
}

func (d drawer) oneOf(words ...string) string { return words[d.IntN(len(words))] }

// chance is true in so many of a hundred cases.
func (d drawer) chance(percent int) bool { return d.IntN(100) < percent }

func (d drawer) step(actor, store string, late bool) step {
	s := step{actor: actor, pick: d.IntN(1 << 20), binary: d.chance(25)}
	switch actor {
	case "primary":
		s.verb = "push"
	case "clone", "standby":
		s.verb = d.oneOf("push", "push", "fetch")
		if actor == "clone" {
			s.verb = "push"
		}
		if late && d.chance(8) {
			s.verb = "promote"
		}
	case "recovery":
		s.verb = "fetch"
	case "pruner":
		s.verb = "prune"
	}
	if d.chance(25) {
		return s // nothing goes wrong
	}
	switch store {
	case "folder":
		d.ofFolder(&s)
	case "sshd":
		d.ofHost(&s)
	default:
		d.ofGate(&s, store)
	}
	return s
}

// ofGate draws what goes wrong at a gate.
func (d drawer) ofGate(s *step, store string) {
	switch n := d.IntN(100); {
	case n < 58:
		s.wire = d.breakage(s.verb)
	case n < 66:
		s.line = d.line(s.verb)
	case n < 82:
		s.binary, s.at = true, d.at(s.verb)
	case n < 87 && store != "recorded":
		s.wire.inject = d.server()
	case n < 97:
		s.wire = breakage{kind: "world", on: "any", nth: 1 + d.IntN(25)}
		s.world = d.oneOf("unmount", "restart", "down", "clock forward", "clock back")
		if d.chance(50) {
			s.wire = breakage{} // at the beginning
		}
	default:
		s.binary, s.cancel = false, time.Duration(d.IntN(30))*time.Millisecond
	}
}

// ofHost draws what can go wrong between the binary and a host that is
// somebody else's.
func (d drawer) ofHost(s *step) {
	switch n := d.IntN(100); {
	case n < 45:
		s.line = d.line(s.verb)
	case n < 75:
		s.binary, s.at = true, d.at(s.verb)
	default:
		s.world = d.oneOf("unmount", "restart", "restart", "clock forward", "clock back")
	}
}

// ofFolder draws what can go wrong with an archive in a local folder.
func (d drawer) ofFolder(s *step) {
	switch n := d.IntN(100); {
	case n < 45:
		s.binary, s.at = true, d.at(s.verb)
	case n < 65:
		s.binary, s.inject = true, d.client()
	case n < 85:
		s.world = d.oneOf("unmount", "clock forward", "clock back")
	default:
		s.binary, s.cancel = false, time.Duration(d.IntN(30))*time.Millisecond
	}
}

// breakage draws a fault of the wire or of the server, at a request that matters.
func (d drawer) breakage(verb string) breakage {
	b := breakage{on: "any", nth: 1 + d.IntN(30), code: []uint32{sftpFailure, sftpFailure, sftpNoSpace, sftpQuota, sftpPermission}[d.IntN(5)],
		bit: d.Uint32(), delay: time.Duration(1+d.IntN(15)) * time.Millisecond}
	b.kind = d.oneOf("refuse", "refuse", "lose", "lose", "cut", "cut after", "kill", "kill after", "silence", "deaf", "slow", "taken")
	if d.chance(50) {
		return b
	}
	switch verb {
	case "push", "promote":
		b.on, b.nth = d.oneOf("open", "write", "write", "fsync", "hardlink", "hardlink", "remove", "close", "mkdir", "lstat"), 1+d.IntN(3)
		if b.on == "hardlink" || b.on == "mkdir" {
			b.nth = 1
		}
		if b.on == "open" {
			b.nth += d.IntN(8)
		}
		if b.on == "write" && d.chance(60) {
			b.kind = d.oneOf("short write", "refuse")
		}
	case "fetch":
		b.on, b.nth = d.oneOf("open", "read", "read", "read", "read", "fstat", "opendir", "readdir"), 1+d.IntN(5)
		if b.on == "read" && d.chance(70) {
			b.kind = d.oneOf("flip", "flip", "eof", "short read")
		}
	case "prune":
		b.on, b.nth = d.oneOf("remove", "fsync", "opendir", "readdir", "open"), 1+d.IntN(4)
	}
	return b
}

func (d drawer) line(verb string) lineFault {
	f := lineFault{
		kind: d.oneOf("delay", "cut", "cut", "cut", "black hole", "refuse", "half-open"),
		to:   testnet.ToServer, n: int64(d.IntN(120 << 10)), d: time.Duration(1+d.IntN(15)) * time.Millisecond,
	}
	if verb == "fetch" != d.chance(20) {
		f.to = testnet.ToClient
	}
	return f
}

// at draws a step of the binary and what happens to it there.
func (d drawer) at(verb string) string {
	steps := []string{"push.begin", "put.created", "put.written", "put.synced", "put.published", "put.folder-synced"}
	switch verb {
	case "fetch":
		steps = []string{"fetch.begin", "fetch.created", "fetch.written", "fetch.synced", "fetch.delivered"}
	case "prune":
		steps = []string{"prune.begin", "prune.wal-removed", "prune.wal-done", "prune.swept"}
	}
	at, action := d.oneOf(steps...), d.oneOf("kill", "kill", "kill", "stop", "stop", "stop", "stop", "panic")
	// prune has no limit for the whole call, and that of the others begins after
	// their first step.
	if verb != "prune" && !strings.HasSuffix(at, ".begin") && d.chance(3) {
		action = "hang"
	}
	return at + "=" + action
}

// server draws system calls of the real sftp-server that fail.
func (d drawer) server() string {
	call := d.oneOf("write", "write", "fsync", "fsync", "?link,linkat", "?link,linkat", "openat", "?unlink,unlinkat", "?mkdir,mkdirat", "read", "close")
	when := 1 + d.IntN(3)
	if call == "write" || call == "read" || call == "openat" {
		when = 1 + d.IntN(40)
	}
	return fmt.Sprintf("%s:error=%s:when=%d", call, d.oneOf("EIO", "ENOSPC", "EDQUOT"), when)
}

// client draws system calls of the binary that fail: with a local archive it
// is what writes.
func (d drawer) client() string {
	call := d.oneOf("pwrite64", "pwrite64", "fsync", "fsync", "linkat", "linkat", "unlinkat", "mkdirat", "close", "renameat")
	when := "1"
	if d.chance(40) {
		when = fmt.Sprintf("%d", 2+d.IntN(3))
	}
	return fmt.Sprintf("%s:error=%s:when=%s", call, d.oneOf("EIO", "ENOSPC", "EDQUOT"), when)
}
