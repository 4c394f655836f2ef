package stored

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Files of the formats' own tools are read, and when they are cut short that is
// noticed.
func TestForeignFiles(t *testing.T) {
	content := text(3 << 20)
	for _, tool := range []struct {
		codec   Codec
		command []string
	}{
		{Zstd, []string{"zstd", "-qc"}},
		{Zstd, []string{"zstd", "-qc", "--long=27", "--no-check"}},
		{Gzip, []string{"gzip", "-c"}},
		{LZ4, []string{"lz4", "-qc"}},
		{LZ4, []string{"lz4", "-qc", "-9", "--no-frame-crc"}},
	} {
		t.Run(fmt.Sprint(tool.command), func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(tool.command[0], tool.command[1:]...)
			cmd.Stdin = bytes.NewReader(content)
			file, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			c, err := Decode(bytes.NewReader(file), int64(len(file)), tool.codec, int64(len(content)), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			got, err := io.ReadAll(c)
			if err != nil || c.HasRecord || !bytes.Equal(got, content) {
				t.Fatalf("%d bytes, record %v, %v", len(got), c.HasRecord, err)
			}
			for n := 0; n < len(file); n += 1 + len(file)/97 {
				got, err := decode(file[:n], tool.codec, int64(len(content)))
				if err == nil && len(got) != 0 || err != nil && !errors.Is(err, ErrDamaged) {
					t.Errorf("cut to %d of %d bytes: %d bytes, %v", n, len(file), len(got), err)
				}
			}
		})
	}
}

// A small file cannot fill the disk.
func TestBomb(t *testing.T) {
	const limit = 1 << 20
	zeros := make([]byte, 64<<20)
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	w.Write(zeros)
	w.Close()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for codec, file := range map[Codec][]byte{Gzip: zipped.Bytes(), Zstd: enc.EncodeAll(zeros, nil), Plain: zeros} {
		c, err := Decode(bytes.NewReader(file), int64(len(file)), codec, limit, testKeys())
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.Copy(io.Discard, c)
		c.Close()
		if !errors.Is(err, ErrDamaged) || got > limit {
			t.Errorf("%s: %d bytes came out, %v", codec, got, err)
		}
	}
	// A record that promises more than there may be is not even begun.
	file := encode(t, Zstd, zeros[:limit+1])
	if _, err := Decode(bytes.NewReader(file), int64(len(file)), Zstd, limit, nil); !errors.Is(err, ErrDamaged) {
		t.Errorf("a record above the limit: %v", err)
	}
}
