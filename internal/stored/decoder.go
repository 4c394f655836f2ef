package stored

import (
	"bufio"
	"crypto/sha256"
	"io"

	"github.com/klauspost/compress/zstd"

	"walship/internal/crypt"
)

// Decoder decodes one stored file after the other in the goroutine that reads,
// and keeps its memory between them: for a reader of many files that works on
// several at once. It is for one goroutine. Close releases its memory.
type Decoder struct {
	in   *bufio.Reader
	zstd *zstd.Decoder
}

// Decode is the function Decode; the content of the file before cannot be read
// any more.
func (d *Decoder) Decode(src io.Reader, size int64, codec Codec, limit int64, keys *crypt.Keys) (*Content, error) {
	if codec.inner() != Zstd {
		return Decode(src, size, codec, limit, keys)
	}
	if d.in == nil {
		d.in = bufio.NewReaderSize(nil, 256<<10)
	}
	d.in.Reset(src)
	c := &Content{limit: limit, sum: sha256.New(), close: func() {}}
	if err := c.readHead(d.in, size); err != nil {
		return nil, err
	}
	in, err := unseal(d.in, codec, keys)
	if err != nil {
		return nil, err
	}
	if d.zstd == nil {
		d.zstd, err = zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	} else {
		err = d.zstd.Reset(in)
	}
	if err != nil {
		return nil, readError(err)
	}
	c.r = d.zstd
	return c, nil
}

// Close releases the memory. The Decoder must not be used any more.
func (d *Decoder) Close() {
	if d.zstd != nil {
		d.zstd.Close()
	}
}
