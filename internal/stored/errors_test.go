package stored

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
)

var errTest = errors.New("the store fails")

// A store that fails at any byte is not damage, and never the end.
func TestStoreErrors(t *testing.T) {
	content := text(300 << 10)
	for _, codec := range []Codec{Zstd, Gzip, Plain, Zstd.Sealed()} {
		file := encode(t, codec, content)
		for at := 0; at < len(file); at += 1 + len(file)/41 {
			src := io.MultiReader(bytes.NewReader(file[:at]), iotest.ErrReader(errTest))
			c, err := Decode(Source(src), int64(len(file)), codec, int64(len(content)), testKeys())
			if err == nil {
				_, err = io.Copy(io.Discard, c)
				c.Close()
			}
			if !errors.Is(err, errTest) || errors.Is(err, ErrDamaged) {
				t.Fatalf("%s, broken at %d of %d: %v", codec, at, len(file), err)
			}
		}
	}
}

// A failed read stays failed.
func TestReadAfterTheEnd(t *testing.T) {
	file := encode(t, Zstd, text(1000))
	c, err := Decode(bytes.NewReader(file), int64(len(file)), Zstd, 1000, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.ReadAll(c); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("%d, %v", n, err)
	}
	if c.Sum() != sha256.Sum256(text(1000)) {
		t.Error("Sum is not that of the content")
	}
}

type failingWriter struct{ after int64 }

func (w failingWriter) WriteAt(p []byte, at int64) (int, error) {
	if at >= w.after || at == 0 && w.after == -1 {
		return 0, errTest
	}
	return len(p), nil
}

// countingReader counts the reads that come after it was closed.
type countingReader struct {
	r      io.Reader
	closed atomic.Bool
	late   atomic.Int64
}

func (r *countingReader) Read(p []byte) (int, error) {
	if r.closed.Load() {
		r.late.Add(1)
	}
	return r.r.Read(p)
}

func TestEncodeFails(t *testing.T) {
	content := make([]byte, 24<<20) // more than is encoded ahead
	for _, codec := range []Codec{Zstd, Gzip, Plain, Zstd.Sealed()} {
		bad := io.MultiReader(bytes.NewReader(content[:3<<20]), iotest.ErrReader(errTest))
		if err := Encode(bad, codec, 24<<20).WriteTo(&buffer{}, testRecord, sealFor(codec)); !errors.Is(err, errTest) {
			t.Errorf("%s, source fails: %v", codec, err)
		}
		if err := Encode(bytes.NewReader(content), codec, 24<<20-1).WriteTo(&buffer{}, testRecord, sealFor(codec)); err == nil {
			t.Errorf("%s, longer than announced: nil", codec)
		}
		for _, after := range []int64{-1, 600, 2000} {
			if after == 2000 && codec.IsSealed() {
				continue // what is encrypted is written in chunks
			}
			src := &countingReader{r: bytes.NewReader(content)}
			err := Encode(src, codec, 24<<20).WriteTo(failingWriter{after}, testRecord, sealFor(codec))
			src.closed.Store(true)
			if !errors.Is(err, errTest) {
				t.Errorf("%s, writing fails at %d: %v", codec, after, err)
			}
			if n := src.late.Load(); n != 0 {
				t.Errorf("%s: the source was read after WriteTo", codec)
			}
		}
	}
}

func TestStop(t *testing.T) {
	src := &countingReader{r: bytes.NewReader(make([]byte, 64<<20))}
	e := Encode(src, Gzip, 64<<20)
	e.Stop()
	src.closed.Store(true)
	e.Stop()
	if n := src.late.Load(); n != 0 {
		t.Error("the source was read after Stop")
	}
	if err := e.WriteTo(&buffer{}, testRecord, Seal{}); err == nil {
		t.Error("what was given up is written as if it were whole")
	}
}

// A record that does not fit is an error, not a file without one.
func TestRecordTooLong(t *testing.T) {
	r := testRecord
	r.Name = strings.Repeat("x", 600)
	for _, codec := range []Codec{Zstd, Gzip, Zstd.Sealed()} {
		if err := Encode(strings.NewReader("x"), codec, 1).WriteTo(&buffer{}, r, sealFor(codec)); err == nil {
			t.Errorf("%s: nil", codec)
		}
	}
}

// The longest record that there can be fits.
func TestLongestRecord(t *testing.T) {
	r := testRecord
	r.Name = "FFFFFFFFFFFFFFFF00000FFF.FFFFFFFF.backup"
	r.Size, r.StoredSize, r.SegmentSize, r.Version = 1<<62, 1<<62, 1<<30, "9.5alpha1"
	r.Sealed = sha256.Sum256(nil)
	if _, err := r.sealedLine(); err != nil {
		t.Error(err)
	}
}
