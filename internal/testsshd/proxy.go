package testsshd

import (
	"net"
	"sync"
	"time"
)

// Proxy stands between a client and a server and makes the way longer. It is
// closed, with all its connections, at the test's end.
//
//	p := testsshd.StartProxy(t, srv.Addr, 20*time.Millisecond)
//	// connect to p.Addr: each round trip takes 20 ms more; bandwidth is not limited
//	p.Turns()   // round trips so far
//	p.Freeze()  // from now on nothing passes, and nothing is closed
//	p.Cut()     // all connections are reset
type Proxy struct {
	Addr string // 127.0.0.1:port
	Port string

	target string
	half   time.Duration
	frozen chan struct{} // closed by Freeze
	done   chan struct{} // closed at the end
	freeze sync.Once

	mu    sync.Mutex
	turns int
	last  net.Conn // the client connection that spoke last, nil after the server spoke
	conns map[net.Conn]bool
}

// StartProxy listens on a free port of 127.0.0.1 and passes everything on to
// target, half of rtt later in each direction. The connection's set-up itself
// takes no longer, so a client's first round trip is not counted.
func StartProxy(t TB, target string, rtt time.Duration) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("testsshd: %v", err)
	}
	p := &Proxy{Addr: l.Addr().String(), target: target, half: rtt / 2,
		frozen: make(chan struct{}), done: make(chan struct{}), conns: map[net.Conn]bool{}}
	_, p.Port, _ = net.SplitHostPort(p.Addr)
	t.Cleanup(func() {
		close(p.done)
		l.Close()
		p.Cut()
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p
}

// Turns returns how often a client has begun to speak after the server had
// spoken: the round trips that one connection at a time has had to wait for.
func (p *Proxy) Turns() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.turns
}

// Freeze lets nothing pass from now on: a peer that has fallen silent.
func (p *Proxy) Freeze() { p.freeze.Do(func() { close(p.frozen) }) }

// Cut closes all connections.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}

func (p *Proxy) serve(client net.Conn) {
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		client.Close()
		return
	}
	p.mu.Lock()
	p.conns[client], p.conns[server] = true, true
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.pass(server, client, client) })
	both.Go(func() { p.pass(client, server, nil) })
	both.Wait()
	p.mu.Lock()
	delete(p.conns, client)
	delete(p.conns, server)
	p.mu.Unlock()
	client.Close()
	server.Close()
}

type chunk struct {
	due  time.Time
	data []byte
}

// pass copies from src to dst, each piece half a round trip after it came.
// spoke is the client when src is one.
func (p *Proxy) pass(dst, src, spoke net.Conn) {
	queue := make(chan chunk, 1<<16)
	go func() {
		defer close(queue)
		for {
			buf := make([]byte, 32<<10)
			n, err := src.Read(buf)
			if n > 0 {
				p.count(spoke)
				queue <- chunk{time.Now().Add(p.half), buf[:n]}
			}
			if err != nil {
				return
			}
		}
	}()
	for c := range queue {
		if d := time.Until(c.due); d > 0 {
			time.Sleep(d)
		}
		select {
		case <-p.frozen:
			<-p.done
			return
		default:
		}
		if _, err := dst.Write(c.data); err != nil {
			src.Close()
			return
		}
	}
	select {
	case <-p.frozen: // an end is not passed on either
		<-p.done
	default:
		dst.(*net.TCPConn).CloseWrite()
	}
}

func (p *Proxy) count(spoke net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if spoke != nil && p.last != spoke {
		p.turns++
	}
	p.last = spoke
}
