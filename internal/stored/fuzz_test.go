package stored

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func seeds(f *testing.F, add func(codec Codec, file []byte)) {
	for _, codec := range Written() {
		for _, content := range [][]byte{nil, []byte("1\t0/5000C58\tno recovery target specified\n"), text(5000)} {
			file := encode(f, codec, content)
			add(codec, file)
			if len(file) > 9 {
				add(codec, file[:len(file)-9])
				add(codec, flipped(file, 8*len(file)-70))
			}
		}
	}
}

// A head is damaged, carries no record, or has one that could be written again
// and speaks of this file.
func FuzzParseHead(f *testing.F) {
	seeds(f, func(_ Codec, file []byte) { f.Add(file[:min(len(file), HeadSize)], int64(len(file))) })
	f.Fuzz(func(t *testing.T, front []byte, size int64) {
		r, err := ParseHead(front, size)
		switch {
		case err == nil:
			if r.StoredSize != size || r.Size < 0 {
				t.Errorf("%+v of a file of %d bytes", r, size)
			}
		case !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNoRecord):
			t.Error(err)
		}
	})
}

// Whatever a file holds: what is read of it stays within the limit, and with a
// record is what that says.
func FuzzDecode(f *testing.F) {
	codecs := append(Foreign(), Zstd.Sealed(), Gzip.Sealed(), Plain.Sealed())
	seeds(f, func(codec Codec, file []byte) {
		for i, c := range codecs {
			if c == codec {
				f.Add(uint8(i), file)
			}
		}
	})
	f.Fuzz(func(t *testing.T, codec uint8, file []byte) {
		const limit = 1 << 16
		c, err := Decode(Source(bytes.NewReader(file)), int64(len(file)), codecs[int(codec)%len(codecs)], limit, testKeys())
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
			return
		}
		defer c.Close()
		data, err := io.ReadAll(c)
		if len(data) > limit {
			t.Errorf("%d bytes", len(data))
		}
		if err == nil && c.HasRecord && (int64(len(data)) != c.Record.Size || c.Sum() != c.Record.SHA256) {
			t.Error("content that its record does not fit")
		}
		if err != nil && !errors.Is(err, ErrDamaged) {
			t.Error(err)
		}
	})
}
