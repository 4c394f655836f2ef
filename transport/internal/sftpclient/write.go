package sftpclient

import (
	"context"
	"encoding/binary"
	"sync"
	"time"
)

// How much is sent ahead. A fresh connection that is filled at once makes OpenSSH
// pause; a long link needs more in flight than a short one, and gets it as answers
// come. But what its sftp-server has not taken yet, sshd keeps in a buffer that it
// copies whole to have room for the next packet: with more in flight than the link
// needs that costs it more time than all else.
const (
	windowShort = 256 << 10
	windowBegin = 1 << 20
	windowLong  = 4 << 20
	longTrip    = 5 * time.Millisecond

	// fastLink is what one writer may reach on a long link, in bytes a second.
	fastLink = 100 << 20
)

// Writer writes to an open file without waiting for each answer. Its methods
// may be called concurrently.
type Writer struct {
	h    *Handle
	most int // that window grows to

	mu     sync.Mutex
	window int // bytes that may be in flight
	room   sync.Cond
	flight int // bytes sent and not acknowledged
	err    error
	stop   func() bool // stops watching the context
}

// Writer returns a Writer for h. Flush must be called in the end.
func (h *Handle) Writer(ctx context.Context) *Writer {
	w := &Writer{h: h}
	w.window, w.most = windows(h.c.Trip())
	w.room.L = &w.mu
	w.stop = context.AfterFunc(ctx, func() {
		w.acknowledged(0, &LostError{context.Cause(ctx)})
	})
	return w
}

// windows is how much may be in flight on a link of that round trip, at first and
// at most.
func windows(trip time.Duration) (begin, most int) {
	if trip <= longTrip {
		return windowShort, windowShort
	}
	return windowBegin, min(windowLong, max(windowBegin, int(trip.Seconds()*fastLink)))
}

// WriteAt sends p, which it does not keep, to be written at off. It returns when
// there is room for p among what is under way, or the context has ended. An error
// of an earlier write is returned by a later one, or by Flush.
func (w *Writer) WriteAt(p []byte, off int64) (int, error) {
	sent := 0
	for sent < len(p) {
		part := p[sent:min(len(p), sent+chunk)]
		if err := w.send(part, off+int64(sent)); err != nil {
			return sent, err
		}
		sent += len(part)
	}
	return sent, nil
}

func (w *Writer) send(p []byte, off int64) error {
	w.mu.Lock()
	for w.err == nil && w.flight > 0 && w.flight+len(p) > w.window {
		w.room.Wait()
	}
	err := w.err
	w.flight += len(p)
	w.mu.Unlock()
	if err != nil {
		w.acknowledged(len(p), nil)
		return err
	}
	body := binary.BigEndian.AppendUint64(nil, uint64(off))
	body = binary.BigEndian.AppendUint32(body, uint32(len(p)))
	n := len(p)
	w.h.start(&Call{op: "write", then: func(call *Call) {
		err := call.err
		if err == nil {
			err = call.status(call.answer)
		} else {
			err = call.wrap(err)
		}
		w.acknowledged(n, err)
		w.grow(n)
	}}, typeWrite, body, p)
	return nil
}

func (w *Writer) acknowledged(n int, err error) {
	w.mu.Lock()
	w.flight -= n
	if w.err == nil {
		w.err = err
	}
	w.room.Broadcast()
	w.mu.Unlock()
}

// grow doubles the window in each round trip until it is as large as it gets.
func (w *Writer) grow(n int) {
	w.mu.Lock()
	w.window = min(w.window+n, w.most)
	w.mu.Unlock()
}

// Flush waits until every write has been acknowledged, one has failed or the
// context has ended, and returns the first error. No WriteAt may follow.
func (w *Writer) Flush() error {
	defer w.stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.err == nil && w.flight > 0 {
		w.room.Wait()
	}
	return w.err
}
