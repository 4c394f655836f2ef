package stored

import (
	"bytes"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"filippo.io/age"

	"walship/internal/crypt"
)

// buffer is a file in memory.
type buffer struct{ data []byte }

func (b *buffer) WriteAt(p []byte, at int64) (int, error) {
	if end := int(at) + len(p); end > len(b.data) {
		b.data = append(b.data, make([]byte, end-len(b.data))...)
	}
	return copy(b.data[at:], p), nil
}

var testRecord = Record{
	Name:        "0000000100000000000000FE",
	SystemID:    1<<64 - 1,
	SegmentSize: 16 << 20,
	Version:     "9.6",
	Time:        time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
}

// testIdentity opens what the tests encrypt.
const testIdentity = "AGE-SECRET-KEY-1UFDAKGTKHA7DEDVNUVC2FS3G8SDSC04QDNYZ58M7RGLE0CQ2W0SQ2FW49W"

func identity() *age.X25519Identity {
	id, err := age.ParseX25519Identity(testIdentity)
	if err != nil {
		panic(err)
	}
	return id
}

func testKeys() *crypt.Keys { return crypt.KeysOf(identity()) }

// sealFor is the Seal with which a codec's files are written.
func sealFor(codec Codec) Seal {
	if !codec.IsSealed() {
		return Seal{}
	}
	to, err := crypt.ParseRecipients([]string{identity().Recipient().String()})
	if err != nil {
		panic(err)
	}
	return Seal{To: to}
}

// encode returns the stored file of content.
func encode(t testing.TB, codec Codec, content []byte) []byte {
	t.Helper()
	var b buffer
	e := Encode(bytes.NewReader(content), codec, int64(len(content)))
	if err := e.WriteTo(&b, testRecord, sealFor(codec)); err != nil {
		t.Fatal(err)
	}
	if sum, n := e.Sum(); n != int64(len(content)) || sum != sha256.Sum256(content) {
		t.Fatalf("%s: learnt %d bytes, SHA-256 %x of %d bytes", codec, n, sum, len(content))
	}
	return b.data
}

// decode reads a stored file.
func decode(file []byte, codec Codec, limit int64) ([]byte, error) {
	c, err := Decode(Source(bytes.NewReader(file)), int64(len(file)), codec, limit, testKeys())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return io.ReadAll(c)
}

// text is n bytes that compress like WAL does: some of it, in pieces.
func text(n int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	var b []byte
	for len(b) < n {
		word := make([]byte, 8)
		for i := range word {
			word[i] = byte(r.Uint32())
		}
		b = append(b, word...)
		b = append(b, make([]byte, r.IntN(40))...)
	}
	return b[:n]
}

func random(n int) []byte {
	r := rand.NewChaCha8([32]byte{1})
	b := make([]byte, n)
	r.Read(b)
	return b
}

func flipped(b []byte, bit int) []byte {
	b = slices.Clone(b)
	b[bit/8] ^= 1 << (bit % 8)
	return b
}
