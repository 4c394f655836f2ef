// Package testnet puts faults between a client and a server on loopback: a TCP
// proxy that delays, swallows, refuses and cuts, and servers that fall silent.
// It delays without throttling, and it knows nothing of what it carries.
package testnet

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// TB is what this package needs of a test; testing.TB has it. Fatalf must not
// return to its caller.
type TB interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, args ...any)
}

// Direction is one of the two ways through a proxy.
type Direction int

const (
	ToServer Direction = iota // what the client sends
	ToClient                  // what the server answers
)

// Proxy forwards TCP connections to its target. Its methods may be called at any
// time, from any goroutine.
type Proxy struct {
	target string
	addr   string
	delay  atomic.Int64 // of each direction, in nanoseconds
	count  atomic.Int64 // connections accepted
	bytes  [2]atomic.Int64
	turns  atomic.Int64
	last   atomic.Int32 // Direction of the latest bytes

	mu       sync.Mutex
	changed  *sync.Cond // black, closed
	black    bool
	closed   bool
	trigger  [2]trigger
	listener net.Listener
	links    map[*link]struct{}
	working  sync.WaitGroup
}

// trigger does something once so many more bytes have been forwarded.
type trigger struct {
	left int64
	fire func() // nil: not armed; called with mu held
}

// New starts a proxy in front of target, host:port. It ends with the test.
func New(t TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("%v", err)
	}
	p := &Proxy{target: target, addr: l.Addr().String(), listener: l, links: map[*link]struct{}{}}
	p.changed = sync.NewCond(&p.mu)
	p.last.Store(int32(ToClient))
	p.working.Go(func() { p.accept(l) })
	t.Cleanup(p.close)
	return p
}

// Addr is the host:port to connect to. It stays the same for good.
func (p *Proxy) Addr() string { return p.addr }

// Port is the port of Addr.
func (p *Proxy) Port() int {
	addr, err := net.ResolveTCPAddr("tcp", p.addr)
	if err != nil {
		return 0 // cannot be: it came from a listener
	}
	return addr.Port
}

// SetDelay makes bytes arrive so much later in each direction: a round trip
// takes 2d longer. What follows closely stays close, as on a long line.
func (p *Proxy) SetDelay(d time.Duration) { p.delay.Store(int64(d)) }

// Connections is how many connections have been accepted so far.
func (p *Proxy) Connections() int { return int(p.count.Load()) }

// Bytes is how many bytes have been forwarded so far.
func (p *Proxy) Bytes(d Direction) int64 { return p.bytes[d].Load() }

// Turns is how often the client has spoken after the server did: with one
// request at a time, the number of round trips. A connection that opens with the
// server's greeting counts it too.
func (p *Proxy) Turns() int { return int(p.turns.Load()) }

// Open is how many connections are open.
func (p *Proxy) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// BlackHole swallows everything while on: connections are accepted and stay
// open, and nothing comes through. Once off, what was held back arrives.
func (p *Proxy) BlackHole(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.setBlack(on)
}

// Strand swallows from now on everything on the connections that are open, which
// stay open, as behind a router that has forgotten them. Later ones work.
func (p *Proxy) Strand() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.stranded = true
	}
}

// BlackHoleAfter turns the black hole on once n more bytes have gone in the
// direction, counted over all connections.
func (p *Proxy) BlackHoleAfter(d Direction, n int64) {
	p.arm(d, n, func() { p.setBlack(true) })
}

// CutAfter resets all connections once n more bytes have gone in the direction,
// counted over all connections; the bytes past n are lost. It happens once:
// later connections work.
func (p *Proxy) CutAfter(d Direction, n int64) {
	p.arm(d, n, p.resetAll)
}

// Reset resets all open connections.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resetAll()
}

// Refuse resets all open connections and refuses new ones while on.
func (p *Proxy) Refuse(on bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if on {
		p.resetAll()
		if p.listener == nil {
			return nil
		}
		err := p.listener.Close()
		p.listener = nil
		return err
	}
	if p.listener != nil || p.closed {
		return nil
	}
	l, err := net.Listen("tcp", p.addr)
	if err != nil {
		return fmt.Errorf("listen again: %w", err)
	}
	p.listener = l
	p.working.Go(func() { p.accept(l) })
	return nil
}

func (p *Proxy) arm(d Direction, n int64, fire func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trigger[d] = trigger{left: n, fire: fire}
}

// setBlack needs mu.
func (p *Proxy) setBlack(on bool) {
	p.black = on
	p.changed.Broadcast()
}

// resetAll needs mu.
func (p *Proxy) resetAll() {
	for l := range p.links {
		l.reset()
	}
	p.changed.Broadcast()
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.resetAll()
	if p.listener != nil {
		_ = p.listener.Close() // ends accept, whatever it says
	}
	p.mu.Unlock()
	p.working.Wait()
}

func (p *Proxy) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		p.count.Add(1)
		link := newLink(conn.(*net.TCPConn))
		p.mu.Lock()
		if p.listener != l || p.closed {
			p.mu.Unlock()
			link.reset()
			return
		}
		p.links[link] = struct{}{}
		p.mu.Unlock()
		p.working.Go(func() {
			link.carry(p)
			p.mu.Lock()
			delete(p.links, link)
			p.mu.Unlock()
		})
	}
}

// waitOpen waits until the link carries something, and is false when it is to
// end. It needs mu.
func (p *Proxy) waitOpen(l *link) bool {
	for (p.black || l.stranded) && !p.closed && !l.ended() {
		p.changed.Wait()
	}
	return !p.closed && !l.ended()
}

// open is waitOpen for who does not hold mu.
func (p *Proxy) open(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waitOpen(l)
}

// pass waits until the black hole is off, then says how many of n bytes may go
// in the direction and what is to be called after them. ok is false when the
// link is to end.
func (p *Proxy) pass(l *link, d Direction, n int) (allowed int, then func(), ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.waitOpen(l) {
		return 0, nil, false
	}
	tr := &p.trigger[d]
	if tr.fire == nil || int64(n) < tr.left {
		tr.left -= int64(n)
		return n, func() {}, true
	}
	allowed, fire := int(tr.left), tr.fire
	*tr = trigger{}
	return allowed, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		fire()
	}, true
}

// saw counts what has been forwarded.
func (p *Proxy) saw(d Direction, n int) {
	p.bytes[d].Add(int64(n))
	if previous := p.last.Swap(int32(d)); d == ToServer && Direction(previous) == ToClient {
		p.turns.Add(1)
	}
}
