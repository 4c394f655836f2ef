// Package sftpclient speaks version 3 of the SSH file transfer protocol
// (draft-ietf-secsh-filexfer-02, with OpenSSH's extensions) as a client.
//
// Requests are sent without waiting for the answers of earlier ones, so that
// independent requests share a round trip. OpenSSH works on the requests of one
// session in the order in which they were sent; others need not. The package decides
// nothing about durability or names: see package transport.
package sftpclient

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// ErrSilent is the reason of a connection that was given up because the server
// neither answered nor took data for the longest time allowed.
var ErrSilent = errors.New("no answer")

const (
	// maxReply bounds a packet from the server: no answer that we ask for is
	// longer, and a hostile length must not make us allocate.
	maxReply = 256 << 10

	// maxHandle is the protocol's own limit, in bytes.
	maxHandle = 256

	// chunk is the payload of a read or write that every server takes.
	chunk = 32 << 10

	// writePiece is what the connection has to take within the silence allowed.
	writePiece = 64 << 10
)

// Client is one SFTP session. Its methods may be called concurrently. Those that
// send do not wait for the network: a server that takes nothing must not hold up
// a caller whose context has ended.
type Client struct {
	conn    io.ReadWriteCloser
	silence time.Duration
	ext     map[string]string

	mu       sync.Mutex
	out      []byte    // whole packets that wait to be written, in order
	more     sync.Cond // out has grown, or the session has ended
	calls    map[uint32]*Call
	nextID   uint32
	err      error         // why the session ended, nil while it lives
	progress time.Time     // when something last moved while calls were waiting
	trip     time.Duration // the shortest time in which a call was answered
	done     chan struct{}
}

// New starts a session over conn, which it owns from now on, and waits for the
// server's version. silence is how long the server may leave requests
// unanswered before the session is given up with ErrSilent.
func New(ctx context.Context, conn io.ReadWriteCloser, silence time.Duration) (*Client, error) {
	c := &Client{
		conn:    conn,
		silence: silence,
		calls:   make(map[uint32]*Call),
		done:    make(chan struct{}),
	}
	c.more.L = &c.mu
	version := &Call{c: c, op: "start SFTP", done: make(chan struct{}), sent: time.Now()}
	c.calls[0] = version // the version packet carries no id; see readLoop
	c.nextID = 1
	c.progress = time.Now()
	c.out = []byte{0, 0, 0, 5, typeInit, 0, 0, 0, 3}

	go c.watch()
	go c.readLoop()
	go c.writeLoop()
	p, err := version.Wait(ctx)
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	r := reader{b: p.body}
	if p.kind != typeVersion || r.uint32() < 3 {
		_ = c.Close()
		return nil, fmt.Errorf("start SFTP: the server does not speak version 3")
	}
	ext := make(map[string]string)
	for r.err == nil && len(r.b) > 0 {
		name, data := r.string(), r.string()
		if r.err == nil {
			ext[name] = data
		}
	}
	c.ext = ext
	return c, nil
}

// Has reports whether the server announced the extension, e.g. "fsync@openssh.com".
func (c *Client) Has(extension string) bool {
	_, ok := c.ext[extension]
	return ok
}

// Close ends the session. Calls that wait fail.
func (c *Client) Close() error {
	c.fail(errors.New("connection closed"))
	return nil
}

// Err is the reason why the session ended, or nil while it lives.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Quiet is how long the server has kept calls waiting without a sign of life;
// 0 if none waits.
func (c *Client) Quiet() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.calls) == 0 {
		return 0
	}
	return time.Since(c.progress)
}

// Trip is the round trip to the server: the shortest time in which it has
// answered, as most answers wait for its disk and for others'.
func (c *Client) Trip() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trip
}

// fail ends the session for reason err, once.
func (c *Client) fail(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	calls := c.calls
	c.calls, c.out = nil, nil
	close(c.done)
	c.more.Broadcast()
	c.mu.Unlock()

	// Closing is what frees a writer that is stuck; it may itself block on a
	// dead peer, so nothing waits for it.
	go func() { _ = c.conn.Close() }()
	for _, call := range calls {
		call.finish(packet{}, &LostError{err})
	}
}

// LostError is what every call gets once the session has ended: whether the
// server carried it out is unknown.
type LostError struct{ Reason error }

func (e *LostError) Error() string { return e.Reason.Error() }
func (e *LostError) Unwrap() error { return e.Reason }

// watch ends the session when the server has been silent for too long.
func (c *Client) watch() {
	timer := time.NewTimer(c.silence)
	defer timer.Stop()
	for {
		select {
		case <-c.done:
			return
		case <-timer.C:
		}
		c.mu.Lock()
		waiting, idle := len(c.calls) > 0, time.Since(c.progress)
		c.mu.Unlock()
		switch {
		case !waiting:
			timer.Reset(c.silence)
		case idle >= c.silence:
			c.fail(fmt.Errorf("%w for %v", ErrSilent, c.silence))
			return
		default:
			timer.Reset(c.silence - idle)
		}
	}
}

// writeLoop writes what is queued. Packets that were queued together go out
// together.
func (c *Client) writeLoop() {
	var spare []byte
	for {
		c.mu.Lock()
		for len(c.out) == 0 && c.err == nil {
			c.more.Wait()
		}
		if c.err != nil {
			c.mu.Unlock()
			return
		}
		batch := c.out
		c.out = spare[:0]
		c.mu.Unlock()

		for rest := batch; len(rest) > 0; {
			n := min(len(rest), writePiece)
			if _, err := c.conn.Write(rest[:n]); err != nil {
				c.fail(lost(err))
				return
			}
			rest = rest[n:]
			c.mu.Lock()
			c.progress = time.Now()
			c.mu.Unlock()
		}
		spare = batch
	}
}

// readLoop hands each answer to the call that waits for it.
func (c *Client) readLoop() {
	in := bufio.NewReaderSize(c.conn, 64<<10)
	var head [5]byte
	for {
		if _, err := io.ReadFull(in, head[:]); err != nil {
			c.fail(lost(err))
			return
		}
		n, kind := binary.BigEndian.Uint32(head[:4]), head[4]
		if n < 1 || n > maxReply {
			c.fail(fmt.Errorf("the server's answer is not SFTP (a packet of %d bytes); does a login script print something?", n))
			return
		}
		body := make([]byte, n-1)
		if _, err := io.ReadFull(in, body); err != nil {
			c.fail(lost(err))
			return
		}
		var id uint32
		if kind != typeVersion {
			if len(body) < 4 {
				c.fail(fmt.Errorf("the server's answer is not SFTP (type %d, %d bytes)", kind, n))
				return
			}
			id, body = binary.BigEndian.Uint32(body), body[4:]
		}
		c.mu.Lock()
		call := c.calls[id]
		delete(c.calls, id)
		c.progress = time.Now()
		if call != nil && (c.trip == 0 || c.progress.Sub(call.sent) < c.trip) {
			c.trip = c.progress.Sub(call.sent)
		}
		c.mu.Unlock()
		if call == nil {
			c.fail(fmt.Errorf("the server answered a request that was not made (id %d, type %d)", id, kind))
			return
		}
		call.finish(packet{kind, body}, nil)
	}
}

// lost words the end of a connection.
func lost(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("connection closed by the server")
	}
	return err
}
