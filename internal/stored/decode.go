package stored

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"walship/internal/crypt"
)

// maxWindow bounds the memory that decoding another tool's zstd file may take:
// what "zstd --long" writes by default, and no more.
const maxWindow = 128 << 20

// Content reads the content of a stored file and checks it on the way.
type Content struct {
	// Record is what the file says of itself; HasRecord is false for a file
	// that says nothing.
	Record    Record
	HasRecord bool

	r     io.Reader
	close func()
	limit int64
	n     int64
	sum   hash.Hash
	err   error
}

// Decode starts to read a stored file of size bytes from src. The content may
// have at most limit bytes: what is longer is damage, so that a small file
// cannot fill the disk. The end of the content, io.EOF, is returned only if
// every check has passed: the format's own, and size and SHA-256 of the record
// if there is one, and for an encrypted file the MAC of its header and of all of
// its content. Close must be called.
//
// An encrypted file is opened with keys; if these do not open it the error wraps
// crypt.ErrNoKey or crypt.ErrIdentity, and nothing is said about the file.
func Decode(src io.Reader, size int64, codec Codec, limit int64, keys *crypt.Keys) (*Content, error) {
	buffered := bufio.NewReaderSize(src, 256<<10)
	c := &Content{limit: limit, sum: sha256.New(), close: func() {}}
	if err := c.readHead(buffered, size); err != nil {
		return nil, err
	}
	in, err := unseal(buffered, codec, keys)
	if err != nil {
		return nil, err
	}
	switch codec.inner() {
	case Zstd:
		d, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(2), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		c.r, c.close = d, d.Close
	case Gzip:
		d, err := gzip.NewReader(in)
		if err != nil {
			return nil, readError(err)
		}
		c.r = d
	case LZ4:
		c.r = lz4.NewReader(in)
	default:
		c.r = in
	}
	return c, nil
}

// readHead reads the record at the front of the file, which in goes on to hold.
func (c *Content) readHead(in *bufio.Reader, size int64) error {
	front, err := in.Peek(int(min(size, HeadSize)))
	if err != nil {
		return readError(err)
	}
	switch c.Record, err = ParseHead(front, size); {
	case err == nil:
		c.HasRecord = true
		if c.Record.Size > c.limit {
			return fmt.Errorf("%w: its content has %d bytes, %d are the most there may be", ErrDamaged, c.Record.Size, c.limit)
		}
	case !errors.Is(err, ErrNoRecord):
		return err
	}
	if size == 0 {
		return fmt.Errorf("%w: it is empty", ErrDamaged)
	}
	return nil
}

// Read reads the content.
func (c *Content) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.r.Read(p)
	c.n += int64(n)
	if c.sum != nil {
		c.sum.Write(p[:n])
	}
	switch {
	case c.n > c.limit:
		err = fmt.Errorf("%w: its content has more than %d bytes", ErrDamaged, c.limit)
	case err == io.EOF:
		err = c.end()
	case err != nil:
		err = readError(err)
	}
	c.err = err
	if err != nil && err != io.EOF {
		n = 0
	}
	return n, err
}

// end is io.EOF if the content is what it should be.
func (c *Content) end() error {
	if !c.HasRecord {
		return io.EOF
	}
	if c.n != c.Record.Size {
		return fmt.Errorf("%w: its content has %d bytes, its record says %d", ErrDamaged, c.n, c.Record.Size)
	}
	if sum := c.Sum(); c.sum != nil && sum != c.Record.SHA256 {
		return fmt.Errorf("%w: its content has SHA-256 %x, its record says %x", ErrDamaged, sum, c.Record.SHA256)
	}
	return io.EOF
}

// Sum is the SHA-256 of what has been read.
func (c *Content) Sum() (sum [32]byte) {
	if c.sum != nil {
		c.sum.Sum(sum[:0])
	}
	return sum
}

// SkipSum lets the content be read without its SHA-256, which takes as much time
// as all the rest. It is for callers that check the SHA-256 of everything in it
// that matters, and comes before the first Read.
func (c *Content) SkipSum() { c.sum = nil }

// Close releases the decoder's memory.
func (c *Content) Close() { c.close() }

// sourceError marks an error that came from the store and not from the content.
type sourceError struct{ error }

func (e sourceError) Unwrap() error { return e.error }

// Source makes the errors of a store tell themselves from damage: wrap the
// reader that Decode gets with it.
func Source(r io.Reader) io.Reader { return source{r} }

type source struct{ r io.Reader }

func (s source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		err = sourceError{err}
	}
	return n, err
}

// readError tells a failing store from a file that cannot be decoded.
func readError(err error) error {
	var src sourceError
	if errors.As(err, &src) {
		return src.error
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}
