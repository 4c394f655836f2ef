package sftpclient

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// How much of a file is asked for before it is needed: no more than the link
// needs, as sshd keeps what it cannot send yet as it does what it has received.
const (
	readShort = 512 << 10
	readLong  = 2 << 20
)

// File reads a file from its beginning, asking ahead. It is not safe for
// concurrent use.
type File struct {
	ctx  context.Context
	h    *Handle
	size int64

	asked  int64 // offset up to which the file has been asked for
	queue  []ask
	rest   []byte // answered and not yet read
	offset int64  // of the end of rest
	err    error
	closed bool
}

type ask struct {
	call *Call
	off  int64
	n    int
}

// read asks for n bytes at off; fewer may come.
func (h *Handle) read(off int64, n int) *Call {
	b := binary.BigEndian.AppendUint64(nil, uint64(off))
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	return h.start(&Call{op: "read"}, typeRead, b, nil)
}

// data waits for the bytes of a read; io.EOF is the end of the file.
func (call *Call) data(ctx context.Context, most int) ([]byte, error) {
	p, err := call.Wait(ctx)
	if err != nil {
		return nil, err
	}
	if p.kind == typeStatus {
		err := call.unexpected(p)
		var status *StatusError
		if errors.As(err, &status) && status.Code == statusEOF {
			return nil, io.EOF
		}
		return nil, err
	}
	r := reader{b: p.body}
	n := r.uint32()
	b := r.bytes(uint64(n))
	if p.kind != typeData || r.err != nil || len(b) > most || len(b) == 0 {
		return nil, call.wrap(errProtocol)
	}
	return b, nil
}

// Reader starts reading the file of a sent Open. ctx bounds the reading too.
func (o OpenCall) Reader(ctx context.Context) (*File, error) {
	h, err := o.Handle(ctx)
	if err != nil {
		return nil, err
	}
	f := &File{ctx: ctx, h: h}
	stat := h.Stat()
	f.askTo(8 * chunk) // in the same flight; a shorter file answers with its end
	attrs, err := h.readable(ctx, stat)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	f.size = attrs.Size
	return f, nil
}

// readable waits for the attributes of a file that is to be read.
func (h *Handle) readable(ctx context.Context, stat *Call) (Attrs, error) {
	attrs, err := stat.Attrs(ctx)
	switch {
	case err != nil:
		return attrs, err
	case !attrs.IsRegular():
		return attrs, &fs.PathError{Op: "open", Path: h.path, Err: errors.New("not a regular file")}
	case !attrs.sized:
		return attrs, &fs.PathError{Op: "open", Path: h.path, Err: errors.New("the server does not tell its size")}
	}
	return attrs, nil
}

// Size is the file's length when it was opened, in bytes.
func (f *File) Size() int64 { return f.size }

func (f *File) askTo(end int64) {
	for f.asked < end {
		f.queue = append(f.queue, ask{f.h.read(f.asked, chunk), f.asked, chunk})
		f.asked += chunk
	}
}

func (f *File) Read(p []byte) (int, error) {
	if len(f.rest) == 0 {
		if f.err == nil {
			f.err = f.next()
		}
		if f.err != nil {
			return 0, f.err
		}
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// next fetches the answer that follows.
func (f *File) next() error {
	if f.offset >= f.size {
		return io.EOF
	}
	ahead := int64(readShort)
	if f.h.c.Trip() > longTrip {
		ahead = readLong
	}
	f.askTo(min(f.offset+ahead, f.size))
	a := f.queue[0]
	f.queue = f.queue[1:]
	b, err := a.call.data(f.ctx, a.n)
	if err == io.EOF {
		return fmt.Errorf("read %s: the file ends at byte %d, it had %d when it was opened: %w", f.h.path, f.offset, f.size, io.ErrUnexpectedEOF)
	}
	if err != nil {
		return err
	}
	// A server may answer with less than was asked for; fetch the remainder
	// before what comes behind it.
	if missing := a.n - len(b); missing > 0 && a.off+int64(len(b)) < f.size {
		again := ask{f.h.read(a.off+int64(len(b)), missing), a.off + int64(len(b)), missing}
		f.queue = append([]ask{again}, f.queue...)
	}
	f.rest = b
	f.offset = a.off + int64(len(b))
	return nil
}

// Close gives the file up. It does not wait for the server. A second Close does
// nothing.
func (f *File) Close() error {
	if f.closed {
		return nil
	}
	f.closed = true
	f.err = fs.ErrClosed
	f.queue, f.rest = nil, nil
	f.h.Close()
	return nil
}

// Head waits for the first n bytes of the file of a sent Open, and its size.
func (o OpenCall) Head(ctx context.Context, n int) (data []byte, size int64, err error) {
	h, err := o.Handle(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer h.Close()
	stat := h.Stat()
	var reads []ask
	for off := 0; off < n; off += chunk {
		k := min(chunk, n-off)
		reads = append(reads, ask{h.read(int64(off), k), int64(off), k})
	}
	attrs, err := h.readable(ctx, stat)
	if err != nil {
		return nil, 0, err
	}
	for len(reads) > 0 {
		a := reads[0]
		b, err := a.call.data(ctx, a.n)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, 0, err
		}
		data = append(data, b...)
		if int64(len(data)) >= attrs.Size {
			break // whole; asking for more would cost a round trip
		}
		if len(b) < a.n {
			rest := ask{h.read(a.off+int64(len(b)), a.n-len(b)), a.off + int64(len(b)), a.n - len(b)}
			reads[0] = rest
			continue
		}
		reads = reads[1:]
	}
	if want := min(int64(n), attrs.Size); int64(len(data)) < want {
		return nil, 0, fmt.Errorf("read %s: the file ends at byte %d of %d: %w", h.path, len(data), attrs.Size, io.ErrUnexpectedEOF)
	}
	return data, attrs.Size, nil
}
