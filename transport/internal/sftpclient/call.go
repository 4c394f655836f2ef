package sftpclient

import (
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"time"
)

// Call is a request that has been sent. Its answer is fetched with Wait or one
// of the methods that expect a certain kind of answer.
type Call struct {
	c        *Client
	op, path string
	onHandle bool // about an open file, whose name is out of the matter
	sent     time.Time
	done     chan struct{}
	then     func(*Call) // run once the answer is there, in the reading goroutine

	answer packet
	err    error
}

type packet struct {
	kind byte
	body []byte
}

func (call *Call) finish(p packet, err error) {
	call.answer, call.err = p, err
	if call.then != nil {
		call.then(call)
	}
	close(call.done)
}

// start sends a request: its type, and its body behind the id.
func (c *Client) start(op, path string, kind byte, body []byte) *Call {
	return c.send(&Call{op: op, path: path}, kind, body, nil)
}

// send queues a request whose body is in two parts, which it does not keep.
func (c *Client) send(call *Call, kind byte, body, payload []byte) *Call {
	call.c, call.done, call.sent = c, make(chan struct{}), time.Now()

	c.mu.Lock()
	if err := c.err; err != nil {
		c.mu.Unlock()
		call.finish(packet{}, &LostError{err})
		return call
	}
	defer c.mu.Unlock()
	id := c.nextID
	c.nextID++
	if c.nextID == 0 {
		c.nextID = 1 // 0 stands for the version
	}
	if len(c.calls) == 0 {
		c.progress = time.Now()
	}
	c.calls[id] = call
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(5+len(body)+len(payload)))
	c.out = append(c.out, kind)
	c.out = binary.BigEndian.AppendUint32(c.out, id)
	c.out = append(c.out, body...)
	c.out = append(c.out, payload...)
	c.more.Signal()
	return call
}

// Done is closed once the answer is there.
func (call *Call) Done() <-chan struct{} { return call.done }

// Wait returns the answer, whatever it is.
func (call *Call) Wait(ctx context.Context) (packet, error) {
	select {
	case <-call.done:
	default:
		select {
		case <-call.done:
		case <-ctx.Done():
			return packet{}, call.wrap(&LostError{context.Cause(ctx)})
		}
	}
	if call.err != nil {
		return packet{}, call.wrap(call.err)
	}
	return call.answer, nil
}

func (call *Call) wrap(err error) error {
	if call.path == "" {
		return fmt.Errorf("%s: %w", call.op, err)
	}
	return &fs.PathError{Op: call.op, Path: call.path, Err: err}
}

// OK waits for a status that says that the request was carried out.
func (call *Call) OK(ctx context.Context) error {
	p, err := call.Wait(ctx)
	if err != nil {
		return err
	}
	return call.status(p)
}

// status is nil only if p is the status OK.
func (call *Call) status(p packet) error {
	if p.kind != typeStatus {
		return call.wrap(errProtocol)
	}
	r := reader{b: p.body}
	code := r.uint32()
	if r.err != nil {
		return call.wrap(errProtocol)
	}
	if code == 0 {
		return nil
	}
	message := r.string() // some servers leave it out
	return call.wrap(&StatusError{Code: code, Message: message, onHandle: call.onHandle})
}

// handle waits for a handle.
func (call *Call) handle(ctx context.Context) (string, error) {
	p, err := call.Wait(ctx)
	if err != nil {
		return "", err
	}
	if p.kind != typeHandle {
		return "", call.unexpected(p)
	}
	r := reader{b: p.body}
	h := r.string()
	if r.err != nil || len(h) > maxHandle {
		return "", call.wrap(errProtocol)
	}
	return h, nil
}

// unexpected turns an answer of another kind than the one hoped for into an error.
func (call *Call) unexpected(p packet) error {
	if err := call.status(p); err != nil {
		return err
	}
	return call.wrap(errProtocol) // OK where there should have been data
}

// Attrs waits for the attributes of a file.
func (call *Call) Attrs(ctx context.Context) (Attrs, error) {
	p, err := call.Wait(ctx)
	if err != nil {
		return Attrs{}, err
	}
	if p.kind != typeAttrs {
		return Attrs{}, call.unexpected(p)
	}
	r := reader{b: p.body}
	a := r.attrs()
	if r.err != nil {
		return Attrs{}, call.wrap(errProtocol)
	}
	return a, nil
}
