package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"walship/internal/crypt"
	"walship/internal/layout"
	"walship/internal/pgdata"
	"walship/internal/stored"
	"walship/transport/storetest"
	"walship/walname"
)

// fixture returns a file of a real server's.
func fixture(t testing.TB, version, name string) []byte {
	t.Helper()
	packed, err := os.ReadFile(filepath.Join("testdata/wal", version, name+".zst"))
	if err != nil {
		t.Fatal(err)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	b, err := dec.DecodeAll(packed, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// dataDir makes the data directory of a real server's cluster.
func dataDir(t testing.TB, version string) *pgdata.Dir {
	t.Helper()
	dir := t.TempDir()
	id, err := os.ReadFile(filepath.Join("testdata/wal", version, "PG_VERSION"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "PG_VERSION"), id)
	write(t, filepath.Join(dir, "global/pg_control"), fixture(t, version, "global/pg_control"))
	d, err := pgdata.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func write(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// testIdentity opens what the tests encrypt.
func testIdentity() *age.X25519Identity {
	id, err := age.ParseX25519Identity("AGE-SECRET-KEY-1UFDAKGTKHA7DEDVNUVC2FS3G8SDSC04QDNYZ58M7RGLE0CQ2W0SQ2FW49W")
	if err != nil {
		panic(err)
	}
	return id
}

func testKeys() *crypt.Keys { return crypt.KeysOf(testIdentity()) }

// recipientsFor are those of an archive whose files are stored as codec says.
func recipientsFor(codec stored.Codec) *crypt.Recipients {
	if !codec.IsSealed() {
		return nil
	}
	return recipientsOf(testIdentity())
}

func recipientsOf(ids ...*age.X25519Identity) *crypt.Recipients {
	var texts []string
	for _, id := range ids {
		texts = append(texts, id.Recipient().String())
	}
	to, err := crypt.ParseRecipients(texts)
	if err != nil {
		panic(err)
	}
	return to
}

// inner is what walship.json calls the codec.
func inner(codec stored.Codec) stored.Codec {
	for _, c := range []stored.Codec{stored.Zstd, stored.Gzip, stored.Plain} {
		if codec == c.Sealed() {
			return c
		}
	}
	return codec
}

// memory is a store whose root is there.
type memory struct{ *storetest.Memory }

func (memory) MkdirRoot(ctx context.Context) error { return ctx.Err() }

// site is a server with its archive in memory.
type site struct {
	*Pusher
	t     testing.TB
	data  *pgdata.Dir
	store *storetest.Memory

	mu    sync.Mutex
	warns []string
}

// newSite has 1 MB segments of 17, or what version says, in an archive that is
// stored as codec says.
func newSite(t testing.TB, version string, codec stored.Codec) *site {
	t.Helper()
	s := &site{t: t, data: dataDir(t, version), store: storetest.NewMemory()}
	s.Pusher = &Pusher{Store: memory{s.store}, Codec: stored.Zstd, HeaderCheck: true, CloneGuard: true, Warn: func(text string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.warns = append(s.warns, text)
	}}
	if _, existed, err := Init(t.Context(), s.Store, s.data, inner(codec), recipientsFor(codec)); err != nil || existed {
		t.Fatal(existed, err)
	}
	return s
}

func (s *site) cluster() layout.Cluster {
	return layout.Cluster{SystemID: s.data.Control.SystemID}
}

func (s *site) stem(name string) string {
	n, err := walname.Parse(name)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.cluster().Stem(n)
}

// push pushes content as the server would.
func (s *site) push(name string, content []byte) error {
	s.t.Helper()
	path := filepath.Join(s.data.WALDir(), name)
	write(s.t, path, content)
	return s.Push(context.Background(), s.data, path, name)
}

// mustPush is a push that has to succeed.
func (s *site) mustPush(name string, content []byte) {
	s.t.Helper()
	if err := s.push(name, content); err != nil {
		s.t.Fatalf("push %s: %v", name, err)
	}
}

// content decodes the stored files of stem, of which there is at most one.
func (s *site) content(stem string) (content []byte, there bool) {
	s.t.Helper()
	for _, codec := range stored.Written() {
		file, ok := s.store.Bytes(stem + codec.Extension())
		if !ok {
			continue
		}
		if there {
			s.t.Fatalf("%s is stored twice", stem)
		}
		c, err := stored.Decode(bytes.NewReader(file), int64(len(file)), codec, 1<<30, testKeys())
		if err != nil {
			s.t.Fatalf("%s: %v", stem, err)
		}
		defer c.Close()
		if content, err = io.ReadAll(c); err != nil {
			s.t.Fatalf("%s: %v", stem, err)
		}
		there = true
	}
	return content, there
}

// holds fails unless the archive holds content whole under stem.
func (s *site) holds(stem string, content []byte) {
	s.t.Helper()
	if got, there := s.content(stem); !there || !bytes.Equal(got, content) {
		s.t.Errorf("%s: there %v, %d bytes, right %v; the archive holds %q", stem, there, len(got), bytes.Equal(got, content), s.store.Names())
	}
}

// warned returns the warnings so far, as one text, and forgets them.
func (s *site) warned() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := strings.Join(s.warns, "\n")
	s.warns = nil
	return text
}

// ofSteps counts the steps of that name from now on.
func (s *site) ofSteps(op string) (count func() int) {
	var mu sync.Mutex
	n := 0
	s.store.Hook(func(step storetest.Step) storetest.Fault {
		mu.Lock()
		defer mu.Unlock()
		if step.Op == op {
			n++
		}
		return storetest.Fault{}
	})
	return func() int { mu.Lock(); defer mu.Unlock(); return n }
}

// short is the beginning of content's hash, as names have it.
func short(content []byte) []byte {
	sum := sha256.Sum256(content)
	return sum[:4]
}

// changed is content with one byte of its last page altered.
func changed(content []byte) []byte {
	b := bytes.Clone(content)
	b[len(b)-1]++
	return b
}

// Segments of the cluster with 1 MB segments.
const (
	small = "17_seg1"
	seg6  = "000000010000000000000006"
	seg7  = "000000010000000000000007"
	seg9  = "000000010000000000000009"
	fork2 = "00000002.history"
)

// segment makes a segment of that name from another one: the page address and
// the timeline of its header are set.
func (s *site) segment(name string, like []byte) []byte {
	n, err := walname.Parse(name)
	if err != nil {
		s.t.Fatal(err)
	}
	b := bytes.Clone(like)
	at := uint64(s.data.Geometry().Start(n.Segment))
	if s.data.Geometry().SkipFF {
		at = at>>32 | at<<32
	}
	for i := range 8 {
		b[8+i] = byte(at >> (8 * i))
	}
	b[4] = byte(n.Timeline())
	return b
}
