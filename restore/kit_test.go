package restore

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
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

// fixtures are files of real servers, kept with package archive.
const fixtures = "../archive/testdata/wal"

func fixture(t testing.TB, version, name string) []byte {
	t.Helper()
	packed, err := os.ReadFile(filepath.Join(fixtures, version, name+".zst"))
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

func write(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// site is a server that recovers, with an archive in memory that is its own.
type site struct {
	*Fetcher
	t     testing.TB
	data  *pgdata.Dir
	store *storetest.Memory
	warns []string
}

// old is what lies at the path before a fetch.
var old = []byte("what was there before")

func newSite(t testing.TB, version string) *site {
	t.Helper()
	dir := t.TempDir()
	id, err := os.ReadFile(filepath.Join(fixtures, version, "PG_VERSION"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "PG_VERSION"), id)
	write(t, filepath.Join(dir, "global/pg_control"), fixture(t, version, "global/pg_control"))
	data, err := pgdata.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, data: data, store: storetest.NewMemory()}
	s.Fetcher = &Fetcher{Store: s.store, Keys: testKeys(), ForkGuard: true, GapGuard: true, HeaderCheck: true, Warn: func(text string) { s.warns = append(s.warns, text) }}
	s.aimAt("latest")
	s.plant(s.cluster().IdentityFile(), layout.Identity{SystemID: data.Control.SystemID, SegmentSize: data.Control.SegmentSize, Codec: "zstd"}.Marshal())
	for _, folder := range s.cluster().Folders() {
		if err := s.store.Mkdir(t.Context(), folder); err != nil {
			t.Fatal(err)
		}
	}
	write(t, s.path(), old)
	return s
}

// flat makes the archive an empty folder, for another tool to fill.
func (s *site) flat() {
	s.store = storetest.NewMemory()
	s.Store = s.store
}

// aimAt sets recovery_target_timeline; "" leaves it unset.
func (s *site) aimAt(timeline string) {
	conf := "postgresql.conf"
	if s.data.Version < 120000 {
		conf = "recovery.conf"
	}
	text := "restore_command = 'walship fetch %f %p'\n"
	if timeline != "" {
		text += "recovery_target_timeline = '" + timeline + "'\n"
	}
	write(s.t, filepath.Join(s.data.Path, conf), []byte(text))
}

func (s *site) cluster() layout.Cluster {
	return layout.Cluster{SystemID: s.data.Control.SystemID}
}

// path is where PostgreSQL wants its files.
func (s *site) path() string { return filepath.Join(s.data.WALDir(), "RECOVERYXLOG") }

func (s *site) plant(name string, content []byte) {
	s.t.Helper()
	if err := s.store.Plant(name, content); err != nil {
		s.t.Fatal(err)
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

// sealFor is how files of the codec are encrypted.
func sealFor(codec stored.Codec) stored.Seal {
	if !codec.IsSealed() {
		return stored.Seal{}
	}
	to, err := crypt.ParseRecipients([]string{testIdentity().Recipient().String()})
	if err != nil {
		panic(err)
	}
	return stored.Seal{To: to}
}

// encoded is the stored file of content.
func (s *site) encoded(name string, content []byte, codec stored.Codec) []byte {
	s.t.Helper()
	var b buffer
	r := stored.Record{Name: name, SystemID: s.data.Control.SystemID, SegmentSize: s.data.Control.SegmentSize}
	if err := stored.Encode(bytes.NewReader(content), codec, int64(len(content))).WriteTo(&b, r, sealFor(codec)); err != nil {
		s.t.Fatal(err)
	}
	return b.data
}

// archive stores content as push does, and returns where.
func (s *site) archive(name string, content []byte, codec stored.Codec) (stow string) {
	s.t.Helper()
	n, err := walname.Parse(name)
	if err != nil {
		s.t.Fatal(err)
	}
	stow = s.cluster().Stem(n) + codec.Extension()
	s.plant(stow, s.encoded(name, content, codec))
	if codec == stored.Plain {
		s.plant(layout.Voucher(stow, sha256.Sum256(content)), []byte("as sha256sum has it"))
	}
	return stow
}

func (s *site) fetch(name string, mode pgdata.Mode) error {
	return s.Fetch(s.t.Context(), Request{Name: name, Path: s.path(), Data: s.data, Mode: mode})
}

// delivered fails unless exactly content lies at the path.
func (s *site) delivered(err error, content []byte) {
	s.t.Helper()
	got, read := os.ReadFile(s.path())
	if err != nil || read != nil || !bytes.Equal(got, content) {
		s.t.Errorf("%v, %v, %d bytes, right %v", err, read, len(got), bytes.Equal(got, content))
	}
	s.clean()
}

// untouched fails unless the path is as it was.
func (s *site) untouched() {
	s.t.Helper()
	got, err := os.ReadFile(s.path())
	if err != nil || !bytes.Equal(got, old) {
		s.t.Errorf("the path holds %d bytes, %v", len(got), err)
	}
	s.clean()
}

// clean fails if a temporary file is left beside the path.
func (s *site) clean() {
	s.t.Helper()
	left, _ := filepath.Glob(filepath.Join(s.data.WALDir(), tempPrefix+"*"))
	if len(left) != 0 {
		s.t.Errorf("left %q", left)
	}
}

// doubt fails unless err is doubt that says so.
func (s *site) doubt(what string, err error, class error, says string) {
	s.t.Helper()
	switch {
	case err == nil || errors.Is(err, ErrNotThere) || !errors.Is(err, class) || !strings.Contains(err.Error(), says):
		s.t.Errorf("%s: %v, want %v that says %q", what, err, class, says)
	}
	s.untouched()
}

// buffer is a file in memory.
type buffer struct{ data []byte }

func (b *buffer) WriteAt(p []byte, at int64) (int, error) {
	if end := int(at) + len(p); end > len(b.data) {
		b.data = append(b.data, make([]byte, end-len(b.data))...)
	}
	return copy(b.data[at:], p), nil
}

// Files of the cluster with 1 MB segments.
const (
	small = "17_seg1"
	seg6  = "000000010000000000000006"
	seg7  = "000000010000000000000007"
	fork2 = "00000002.history"
)

// segment makes a segment of that name from another one.
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

var modes = []pgdata.Mode{pgdata.ByHand, pgdata.Ending, pgdata.Standby, pgdata.ArchiveRecovery}
