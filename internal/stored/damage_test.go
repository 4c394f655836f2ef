package stored

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
)

// A stored file that is not what it was is never taken for it. Where the change
// does not touch the content, as in gzip's own clock, the content may come back.
func TestDamage(t *testing.T) {
	content := append(make([]byte, 1<<20), text(20000)...) // two pieces, quick to read
	for _, codec := range []Codec{Zstd, Gzip} {
		file := encode(t, codec, content)
		check := func(what string, file []byte, mayPass bool) {
			t.Helper()
			got, err := decode(file, codec, int64(len(content)))
			switch {
			case err == nil && (!mayPass || !bytes.Equal(got, content)):
				t.Errorf("%s, %s: nil", codec, what)
			case err != nil && !errors.Is(err, ErrDamaged):
				t.Errorf("%s, %s: %v, want %v", codec, what, err, ErrDamaged)
			}
		}
		r := rand.New(rand.NewPCG(2, 2))
		var bits []int
		for bit := range HeadSize * 8 {
			bits = append(bits, bit)
		}
		for range 200 {
			bits = append(bits, r.IntN(len(file)*8))
		}
		for bit := (len(file) - 16) * 8; bit < len(file)*8; bit++ {
			bits = append(bits, bit)
		}
		for _, bit := range bits {
			check(fmt.Sprintf("bit %d flipped", bit), flipped(file, bit), true)
		}
		lengths := []int{0, 1, 2, 3, 4, 7, 8, 13, 14, 15, 16}
		for range 100 {
			lengths = append(lengths, r.IntN(len(file)))
		}
		for n := 1; n < 600; n += 7 {
			lengths = append(lengths, n, len(file)-n)
		}
		for _, n := range append(lengths, len(file)-1) {
			check(fmt.Sprintf("cut to %d bytes", n), file[:n], false)
		}
		for _, tail := range [][]byte{{0}, []byte("x"), make([]byte, 512), file[:600], file} {
			check(fmt.Sprintf("%d bytes behind it", len(tail)), append(bytes.Clone(file), tail...), false)
		}
		check("another codec's", encode(t, map[Codec]Codec{Zstd: Gzip, Gzip: Zstd}[codec], content), false)
		check("zeros", make([]byte, len(file)), false)
	}
}

// Whatever bits of the record say, it is damaged or the record that was written.
func TestRecordBits(t *testing.T) {
	for _, codec := range []Codec{Zstd, Gzip} {
		file := encode(t, codec, []byte("content"))
		want, err := ParseHead(file, int64(len(file)))
		if err != nil {
			t.Fatal(err)
		}
		for bit := range HeadSize * 8 {
			if bit/8 >= len(file) {
				break
			}
			r, err := ParseHead(flipped(file, bit), int64(len(file)))
			if err == nil && r != want {
				t.Errorf("%s, bit %d: %+v", codec, bit, r)
			}
			if inJSON := bit/8 > 30 && bit/8 < 300; inJSON && !errors.Is(err, ErrDamaged) {
				t.Errorf("%s, bit %d: %v, want %v", codec, bit, err, ErrDamaged)
			}
		}
	}
}

// A file that was cut short tells what it was: push must not take it for a
// free place for other content.
func TestCutShortKeepsItsRecord(t *testing.T) {
	file := encode(t, Zstd, text(4096))
	r, err := ParseHead(file[:HeadSize], int64(len(file))-1)
	if !errors.Is(err, ErrDamaged) || r.Name != testRecord.Name || r.SHA256 == [32]byte{} {
		t.Errorf("%+v, %v", r, err)
	}
}

// Content that its record does not fit is damaged although it decodes.
func TestForeignBody(t *testing.T) {
	one, other := text(5000), text(5000)
	other[7]++
	for _, codec := range []Codec{Zstd, Gzip} {
		head := map[Codec]int{Zstd: zstdHeadSize, Gzip: gzipHeadSize}[codec]
		a, b := encode(t, codec, one), encode(t, codec, other)
		mixed := append(bytes.Clone(a[:head]), b[head:]...)
		if len(mixed) != len(a) {
			t.Fatal("the lengths differ, so this tests nothing")
		}
		if _, err := decode(mixed, codec, 5000); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: the body of another file: %v", codec, err)
		}
	}
}
