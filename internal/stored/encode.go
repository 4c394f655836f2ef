package stored

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/semaphore"
)

// Content is encoded in pieces that are frames (zstd) or members (gzip) of their
// own: two cores then share the work, at no cost in size for WAL.
const pieceSize = 1 << 20

// ahead bounds the encoded pieces that wait to be written, in bytes: WAL that
// compresses well is ready when the connection is, and what does not compress
// takes no more memory than this.
const ahead = 8 << 20

// Encoding is content that is being read, hashed and compressed in the
// background, while the connection to the archive is still being made.
type Encoding struct {
	codec  Codec
	cancel context.CancelFunc
	pieces chan chan piece     // in the order of the content
	room   *semaphore.Weighted // bytes of ahead

	// set before pieces is closed
	size int64
	sum  [32]byte
	err  error
}

// maxPieces bounds the pieces that wait by number: 64 MB of zeros compress to
// next to nothing.
const maxPieces = 64

// rawPieces are buffers of pieceSize bytes, encodedPieces are for what WAL becomes.
var (
	rawPieces     = sync.Pool{New: func() any { b := make([]byte, pieceSize); return &b }}
	encodedPieces = sync.Pool{New: func() any { b := make([]byte, 0, pieceSize/3); return &b }}
)

type piece struct {
	data []byte
	err  error
}

// Encode starts to encode src, at most limit bytes of it, which are an error if
// there are more. Stop, or WriteTo, must be called in the end; src is not used
// after either has returned.
func Encode(src io.Reader, codec Codec, limit int64) *Encoding {
	ctx, cancel := context.WithCancel(context.Background())
	e := &Encoding{codec: codec, cancel: cancel, pieces: make(chan chan piece, maxPieces), room: semaphore.NewWeighted(ahead)}
	go e.run(ctx, src, limit)
	return e
}

func (e *Encoding) run(ctx context.Context, src io.Reader, limit int64) {
	defer close(e.pieces)
	compress, err := e.codec.inner().compressor()
	if err != nil {
		e.err = err
		return
	}
	workers := make(chan struct{}, maxWorkers())
	var running sync.WaitGroup
	defer running.Wait()

	sum := sha256.New()
	for first := true; ; {
		buf := rawPieces.Get().(*[]byte)
		n, err := io.ReadFull(src, *buf)
		// The head of a file that is not encrypted is a whole file by itself.
		none := first && e.codec.IsSealed() && errors.Is(err, io.EOF)
		first = false
		if n == 0 && errors.Is(err, io.EOF) && !none {
			break
		}
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !none {
			e.err = err
			return
		}
		e.size += int64(n)
		if e.size > limit {
			e.err = errors.New("the file is longer than it was when it was opened")
			return
		}
		sum.Write((*buf)[:n])
		// Room for the piece as it is; what compression saves is given back. Only
		// this goroutine takes room, in order, so the next piece to be written
		// always has its own.
		if err := e.room.Acquire(ctx, pieceSize); err != nil {
			e.err = err
			return
		}
		out := make(chan piece, 1)
		select {
		case e.pieces <- out:
		case <-ctx.Done():
			e.err = ctx.Err()
			return
		}
		workers <- struct{}{}
		running.Add(1)
		go func() {
			defer running.Done()
			into := encodedPieces.Get().(*[]byte)
			data, err := compress((*buf)[:n], (*into)[:0])
			e.room.Release(pieceSize - min(int64(len(data)), pieceSize))
			out <- piece{data, err}
			rawPieces.Put(buf)
			<-workers
		}()
	}
	sum.Sum(e.sum[:0])
}

// Sum is the SHA-256 of the content, and its size. It is known once WriteTo has
// returned nil.
func (e *Encoding) Sum() ([32]byte, int64) { return e.sum, e.size }

// Stop gives the encoding up.
func (e *Encoding) Stop() {
	e.cancel()
	for range e.pieces {
	}
}

// WriteTo writes the stored file: the pieces as they come, and in the end, in
// front of them, the record, completed with what has been learnt of the content.
// A codec that encrypts needs the recipients that seal names, another one must
// get none: nothing is written in the clear that was to be encrypted.
func (e *Encoding) WriteTo(w io.WriterAt, r Record, seal Seal) error {
	defer e.Stop()
	if e.codec.IsSealed() != (seal.To != nil) {
		return fmt.Errorf("storing %s as %s: with recipients %v", r.Name, e.codec, seal.To != nil)
	}
	var f form = open{e.codec}
	if seal.To != nil {
		s, err := newSealing(r, seal)
		if err != nil {
			return err
		}
		defer s.wipe()
		f = s
	}
	head, err := f.head(r) // for its length
	if err != nil {
		return err
	}
	offset := int64(len(head))
	write := func(data []byte) error {
		if len(data) == 0 {
			return nil
		}
		_, err := w.WriteAt(data, offset)
		offset += int64(len(data))
		return err
	}
	for out := range e.pieces {
		p := <-out
		if p.err != nil {
			return p.err
		}
		data, err := f.body(p.data)
		if err != nil {
			return err
		}
		if err := write(data); err != nil {
			return err
		}
		e.room.Release(min(int64(len(p.data)), pieceSize))
		encodedPieces.Put(&p.data) // which nobody keeps
	}
	if e.err != nil {
		return e.err
	}
	rest, err := f.end()
	if err != nil {
		return err
	}
	if err := write(rest); err != nil {
		return err
	}
	r.Size, r.SHA256, r.StoredSize = e.size, e.sum, offset
	if head, err = f.head(r); err != nil || len(head) == 0 {
		return err
	}
	_, err = w.WriteAt(head, 0)
	return err
}

// form is what a stored file consists of: a head of fixed length, which is known
// last, the pieces, and perhaps something behind them.
type form interface {
	head(Record) ([]byte, error)
	body(piece []byte) ([]byte, error)
	end() ([]byte, error)
}

// open is the form of a file that is not encrypted.
type open struct{ codec Codec }

func (o open) head(r Record) ([]byte, error)     { return o.codec.head(r) }
func (o open) body(piece []byte) ([]byte, error) { return piece, nil }
func (o open) end() ([]byte, error)              { return nil, nil }

// compressor returns the function that appends one piece to into, which may be
// called concurrently.
func (c Codec) compressor() (compress func(p, into []byte) ([]byte, error), err error) {
	switch c {
	case Zstd:
		enc, err := zstdEncoder()
		return func(p, into []byte) ([]byte, error) { return enc.EncodeAll(p, into), nil }, err
	case Gzip:
		return gzipped, nil
	}
	return func(p, into []byte) ([]byte, error) { return append(into, p...), nil }, nil
}

// zstdEncoder is everybody's: it has tables for each core, which an agent would
// otherwise make for each segment.
var zstdEncoder = sync.OnceValues(func() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(maxWorkers()),
		zstd.WithWindowSize(pieceSize),
		zstd.WithSingleSegment(true),
		zstd.WithZeroFrames(true),
		zstd.WithEncoderCRC(true))
})

var gzipWriters = sync.Pool{New: func() any { w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed); return w }}

func gzipped(p, into []byte) ([]byte, error) {
	w := gzipWriters.Get().(*gzip.Writer)
	defer gzipWriters.Put(w)
	b := bytes.NewBuffer(into)
	w.Reset(b)
	_, err := w.Write(p)
	err = errors.Join(err, w.Close()) // before the bytes are taken: it writes the last of them
	return b.Bytes(), err
}

func maxWorkers() int { return min(runtime.GOMAXPROCS(0), 4) }
