package testnet

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// maxQueued is how many chunks of at most 64 KiB one direction holds while they
// travel: 64 MiB, so that the delay is not a limit on the speed.
const maxQueued = 1024

// dialTimeout is for the target, which runs on this machine.
const dialTimeout = 10 * time.Second

// link is one connection through the proxy.
type link struct {
	done chan struct{} // closed by end

	stranded bool // carries nothing any more; guarded by the proxy's mu

	mu     sync.Mutex
	client *net.TCPConn
	server *net.TCPConn // nil until dialled
}

// chunk is what one read gave and when it is to arrive.
type chunk struct {
	data []byte
	err  error // instead of data: io.EOF or what broke
	due  time.Time
}

func newLink(client *net.TCPConn) *link {
	return &link{done: make(chan struct{}), client: client}
}

// reset ends the link with a TCP reset on both sides.
func (l *link) reset() { l.end(true) }

// end closes both sides, once.
func (l *link) end(reset bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended() {
		return
	}
	close(l.done)
	for _, conn := range []*net.TCPConn{l.client, l.server} {
		if conn == nil {
			continue
		}
		if reset {
			_ = conn.SetLinger(0) // the peer may have gone
		}
		_ = conn.Close()
	}
}

func (l *link) ended() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// until waits for the time and is false when the link has ended.
func (l *link) until(due time.Time) bool {
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.done:
		return false
	}
}

// carry carries the connection to its end. The client believes to be connected
// at once; on a line with this delay it would take it two journeys, and the
// server three.
func (l *link) carry(p *Proxy) {
	defer l.reset() // unless it has ended in order
	delay := time.Duration(p.delay.Load())
	begin := time.Now()
	if !l.until(begin.Add(2 * delay)) {
		return
	}
	var pumps sync.WaitGroup
	defer pumps.Wait()
	up, down := make(chan chunk, maxQueued), make(chan chunk, maxQueued)
	pumps.Go(func() { l.read(p, l.client, up) })
	if !l.until(begin.Add(3*delay)) || !l.dial(p) {
		l.reset()
		return
	}
	pumps.Go(func() { l.read(p, l.server, down) })
	var writers sync.WaitGroup
	writers.Go(func() { l.write(p, ToServer, l.server, up) })
	writers.Go(func() { l.write(p, ToClient, l.client, down) })
	writers.Wait()
	l.end(false) // each side has been told of the other's end
}

// dial connects to the target, once the black hole is off.
func (l *link) dial(p *Proxy) bool {
	if !p.open(l) {
		return false
	}
	conn, err := net.DialTimeout("tcp", p.target, dialTimeout)
	if err != nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended() {
		_ = conn.Close() // never used
		return false
	}
	l.server = conn.(*net.TCPConn)
	return true
}

// read stamps what arrives and queues it, the end included.
func (l *link) read(p *Proxy, from *net.TCPConn, to chan<- chunk) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		due := time.Now().Add(time.Duration(p.delay.Load()))
		if n > 0 && !l.queue(to, chunk{data: append([]byte(nil), buf[:n]...), due: due}) {
			return
		}
		if err != nil {
			l.queue(to, chunk{err: err, due: due})
			return
		}
	}
}

func (l *link) queue(to chan<- chunk, c chunk) bool {
	select {
	case to <- c:
		return true
	case <-l.done:
		return false
	}
}

// write delivers what is queued when it is due, the end included.
func (l *link) write(p *Proxy, d Direction, to *net.TCPConn, from <-chan chunk) {
	for {
		var c chunk
		select {
		case c = <-from:
		case <-l.done:
			return
		}
		if !l.until(c.due) {
			return
		}
		if c.err != nil {
			if !p.open(l) {
				return
			}
			if !errors.Is(c.err, io.EOF) || to.CloseWrite() != nil {
				l.reset()
			}
			return
		}
		for len(c.data) > 0 {
			n, then, ok := p.pass(l, d, len(c.data))
			if !ok {
				return
			}
			p.saw(d, n) // before anyone can have seen them
			if _, err := to.Write(c.data[:n]); err != nil {
				l.reset()
				return
			}
			then()
			c.data = c.data[n:]
		}
	}
}
