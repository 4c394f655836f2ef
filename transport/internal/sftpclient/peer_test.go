package sftpclient

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// The tests of this package are about answers that no real server gives on
// demand. Everything else is tested against real ones in package transport.

// request is what a peer has received.
type request struct {
	kind byte
	id   uint32
	body []byte
}

// peer is the server's side of a session, played by a test.
type peer struct {
	net.Conn
	mu sync.Mutex // of writing
}

// dial starts a session with a peer that has sent its version.
func dial(t *testing.T, silence time.Duration) (*Client, *peer) {
	t.Helper()
	ours, theirs := net.Pipe()
	p := &peer{Conn: theirs}
	t.Cleanup(func() { theirs.Close() })
	greeted := make(chan struct{})
	go func() {
		defer close(greeted)
		if r := p.next(); r.kind == typeInit {
			p.send(typeVersion, []byte{0, 0, 0, 3})
		}
	}()
	c, err := New(t.Context(), ours, silence)
	<-greeted
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, p
}

// next returns the next request; its kind is 0 at the end.
func (p *peer) next() request {
	var head [5]byte
	if _, err := io.ReadFull(p, head[:]); err != nil {
		return request{}
	}
	body := make([]byte, binary.BigEndian.Uint32(head[:])-1)
	if _, err := io.ReadFull(p, body); err != nil {
		return request{}
	}
	return request{head[4], binary.BigEndian.Uint32(body), body[4:]}
}

// send sends a packet.
func (p *peer) send(kind byte, body []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Write(append(append(binary.BigEndian.AppendUint32(nil, uint32(1+len(body))), kind), body...))
}

// reply answers a request.
func (p *peer) reply(r request, kind byte, body []byte) {
	p.send(kind, append(binary.BigEndian.AppendUint32(nil, r.id), body...))
}

// serve answers requests by answer, in a goroutine: kind 0 is no answer.
func (p *peer) serve(answer func(request) (kind byte, body []byte)) {
	go func() {
		for r := p.next(); r.kind != 0; r = p.next() {
			if kind, body := answer(r); kind != 0 {
				p.reply(r, kind, body)
			}
		}
	}()
}

func u32(n uint32) []byte  { return binary.BigEndian.AppendUint32(nil, n) }
func u64(n uint64) []byte  { return binary.BigEndian.AppendUint64(nil, n) }
func str(s string) []byte  { return appendString(nil, s) }
func sized(n int64) []byte { return append(u32(attrSize), u64(uint64(n))...) }
func status(code uint32) []byte {
	return append(append(u32(code), str("words")...), str("")...)
}

// file plays a server with one open file of this content, which answers a read
// with at most so many bytes.
func file(data []byte, most int) func(request) (byte, []byte) {
	return func(r request) (byte, []byte) {
		switch r.kind {
		case typeOpen:
			return typeHandle, str("h")
		case typeFstat:
			return typeAttrs, sized(int64(len(data)))
		case typeRead:
			off, n := binary.BigEndian.Uint64(r.body[5:]), int(binary.BigEndian.Uint32(r.body[13:]))
			if off >= uint64(len(data)) {
				return typeStatus, status(statusEOF)
			}
			part := data[off:]
			return typeData, str(string(part[:min(len(part), n, most)]))
		}
		return typeStatus, status(0)
	}
}

// within demands that f returns in time.
func within(t *testing.T, limit time.Duration, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatalf("not done after %v", limit)
	}
}

var background = context.Background()
