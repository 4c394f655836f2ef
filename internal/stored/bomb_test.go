package stored

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"testing"

	"github.com/pierrec/lz4/v4"
)

// hugeFrame is the beginning of a zstd frame (RFC 8878, 3.1.1.1) whose window has
// 2^log bytes, or which announces one piece of that size; and a block of 128 KiB
// of zeros (3.1.1.2), so often.
func hugeFrame(log int, onePiece bool, blocks int) []byte {
	b := []byte{0x28, 0xb5, 0x2f, 0xfd}
	if onePiece {
		b = binary.LittleEndian.AppendUint64(append(b, 0xe0), 1<<log)
	} else {
		b = append(b, 0x00, byte(log-10)<<3)
	}
	for range blocks {
		const size, repeated = 128 << 10, 1
		h := uint32(size<<3 | repeated<<1)
		b = append(b, byte(h), byte(h>>8), byte(h>>16), 0)
	}
	return b
}

// What a few bytes announce takes no memory by itself: windows above 128 MB are
// refused, and smaller ones bound what is taken.
func TestBombMemory(t *testing.T) {
	const limit = 16 << 20
	var lz bytes.Buffer
	w := lz4.NewWriter(&lz)
	if err := w.Apply(lz4.BlockSizeOption(lz4.Block4Mb)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 4*limit)); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what  string
		codec Codec
		file  []byte
		most  uint64 // bytes of memory that it may take
	}{
		{"a window of 2 TB", Zstd, hugeFrame(41, false, 8), 24 << 20},
		{"a window of 1 GB", Zstd, hugeFrame(30, false, 8), 24 << 20},
		{"a window of 256 MB", Zstd, hugeFrame(28, false, 8), 24 << 20},
		{"one piece of 4 EB", Zstd, hugeFrame(62, true, 8), 24 << 20},
		{"one piece of 1 GB", Zstd, hugeFrame(30, true, 8), 24 << 20},
		{"a window of 128 MB, 1 GB of zeros", Zstd, hugeFrame(27, false, 8<<10), 400 << 20},
		{"a window of 128 KB, 1 GB of zeros", Zstd, hugeFrame(17, false, 8<<10), 64 << 20},
		{"64 MB of zeros", LZ4, lz.Bytes(), 64 << 20},
	} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		var got int64
		content, err := Decode(bytes.NewReader(c.file), int64(len(c.file)), c.codec, limit, nil)
		if err == nil {
			got, err = io.Copy(io.Discard, content)
			content.Close()
		}
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrDamaged) || got > limit {
			t.Errorf("%s: %d bytes came out, %v", c.what, got, err)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > c.most {
			t.Errorf("%s: took %d MB, %d are the most", c.what, took>>20, c.most>>20)
		} else {
			t.Logf("%s: took %d kB: %v", c.what, took>>10, err)
		}
	}
}
