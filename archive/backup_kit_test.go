package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"walship/internal/basebackup"
	"walship/internal/stored"
	"walship/walname"
)

// anEntry is an entry with its content.
type anEntry struct {
	basebackup.Entry
	content []byte
}

// aSource gives entries as a server would. at, if not nil, is asked before each
// call: its error is the call's.
type aSource struct {
	info    basebackup.Info
	end     basebackup.End
	entries []anEntry
	at      func(call string) error

	next   int
	rest   io.Reader
	ended  bool
	closed bool
}

func (s *aSource) ask(call string) error {
	if s.closed {
		return errors.New("used after Close")
	}
	if s.at == nil {
		return nil
	}
	return s.at(call)
}

func (s *aSource) Info() basebackup.Info { return s.info }

func (s *aSource) Next() (basebackup.Entry, error) {
	if err := s.ask("next"); err != nil {
		return basebackup.Entry{}, err
	}
	if s.next == len(s.entries) {
		return basebackup.Entry{}, io.EOF
	}
	e := s.entries[s.next]
	s.next++
	s.rest = bytes.NewReader(e.content)
	return e.Entry, nil
}

func (s *aSource) Read(p []byte) (int, error) {
	if err := s.ask("read"); err != nil {
		return 0, err
	}
	return s.rest.Read(p[:min(len(p), 3000)])
}

func (s *aSource) Finish() (basebackup.End, error) {
	if err := s.ask("finish"); err != nil {
		return basebackup.End{}, err
	}
	if s.next < len(s.entries) {
		return basebackup.End{}, errors.New("finished too early")
	}
	s.ended = true
	return s.end, nil
}

func (s *aSource) Close() error { s.closed = true; return nil }

// begin is what Run is given.
func (s *aSource) begin(context.Context) (basebackup.Source, error) { return s, nil }

// file is an entry for a regular file.
func aFile(tablespace uint32, name string, content []byte) anEntry {
	return anEntry{basebackup.Entry{Tablespace: tablespace, Path: name, Size: int64(len(content)), Mode: 0o600,
		ModTime: time.Date(2026, 11, 22, 10, 0, 0, 123456789, time.UTC)}, content}
}

// some is content that differs from name to name and does not compress to nothing.
func some(name string, size int) []byte {
	b := make([]byte, 0, size+32)
	for sum := sha256.Sum256([]byte(name)); len(b) < size; sum = sha256.Sum256(sum[:]) {
		b = append(b, sum[:]...)
	}
	return b[:size]
}

// backups is a site that takes backups of a source whose WAL is archived.
type backups struct {
	*site
	*Backuper
	said []string
}

func newBackups(t testing.TB, codec stored.Codec) *backups {
	t.Helper()
	s := &backups{site: newSite(t, small, codec)}
	s.Pusher.Codec = codec
	s.Backuper = &Backuper{Store: memory{s.store}, Walship: "test", partSize: 10000, listFiles: 3, partFiles: 4,
		pauses: make([]time.Duration, 4),
		Say:    func(text string) { s.said = append(s.said, text) },
		Warn:   func(text string) { s.said = append(s.said, "warning: "+text) }}
	for name, file := range someWAL(t) {
		if err := s.store.Plant(name, file); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// someWAL is what the archive of a site holds after two segments. It is the same
// for all sites, and made once.
func someWAL(t testing.TB) map[string][]byte {
	t.Helper()
	madeWAL.once.Do(func() {
		s := newSite(t, small, stored.Zstd)
		like := fixture(t, small, seg6)
		madeWAL.files = make(map[string][]byte)
		for _, name := range []string{seg6, seg7} {
			s.mustPush(name, s.segment(name, like))
			madeWAL.files[s.stem(name)+".zst"], _ = s.store.Bytes(s.stem(name) + ".zst")
		}
	})
	return madeWAL.files
}

var madeWAL struct {
	once  sync.Once
	files map[string][]byte
}

// brief is a source of few files.
func (s *backups) brief() *aSource {
	src := s.source()
	src.entries = append(append(src.entries[2:4:4], src.entries[11:13]...), src.entries[14], src.entries[len(src.entries)-1])
	return src
}

// source gives a data directory and a tablespace.
func (s *backups) source() *aSource {
	g := s.data.Geometry()
	from, _ := walname.Parse(seg6)
	to, _ := walname.Parse(seg7)
	src := &aSource{
		info: basebackup.Info{
			SystemID: s.data.Control.SystemID, PostgreSQL: "17", ServerVersion: "17.0", SegmentSize: g.SegmentSize,
			Timeline: 1, StartLSN: g.Start(from.Segment) + 0x28, Begin: time.Date(2026, 11, 22, 11, 45, 0, 5, time.UTC),
			Method: "protocol", Label: "a label", Checksums: true,
			Tablespaces: []basebackup.Tablespace{{OID: 16384, Location: "/srv/ts"}},
		},
		end: basebackup.End{Timeline: 1, EndLSN: g.Start(to.Segment) + 0x100, End: time.Date(2026, 11, 22, 11, 46, 0, 0, time.UTC)},
	}
	dir := func(ts uint32, name string) anEntry {
		return anEntry{Entry: basebackup.Entry{Tablespace: ts, Path: name, Type: basebackup.Dir, Mode: 0o700, ModTime: src.info.Begin}}
	}
	src.entries = append(src.entries, dir(16384, "PG_17_1/5"))
	for i := range 6 {
		name := fmt.Sprintf("PG_17_1/5/%d", 16400+i)
		src.entries = append(src.entries, aFile(16384, name, some(name, 1000*i)))
	}
	src.entries = append(src.entries, aFile(0, "backup_label", []byte("START WAL LOCATION")), dir(0, "base"), dir(0, "base/1"))
	for i, size := range []int{0, 1, 9999, 10000, 10001, 700000, 5000, 5000, 5001, 1} {
		name := fmt.Sprintf("base/1/%d", 100+i)
		src.entries = append(src.entries, aFile(0, name, some(name, size)))
	}
	long := "base/" + strings.Repeat("long", 60) + "/ä"
	src.entries = append(src.entries,
		aFile(0, long, []byte("x")),
		anEntry{Entry: basebackup.Entry{Path: "pg_tblspc/16384", Type: basebackup.Link, Link: "/srv/ts", Mode: 0o777, ModTime: src.info.Begin}},
		aFile(0, "global/pg_control", some("control", 8192)),
		anEntry{basebackup.Entry{ServerManifest: true, Size: -1}, []byte(`{"PostgreSQL-Backup-Manifest-Version": 1}`)})
	return src
}

func (s *backups) root() string { return s.cluster().Folder() + "/base" }

// left lists what lies below base/.
func (s *backups) left() (names []string) {
	for _, name := range s.store.Names() {
		if strings.HasPrefix(name, s.root()+"/") {
			names = append(names, strings.TrimPrefix(name, s.root()+"/"))
		}
	}
	return names
}

// manifests lists the backups that there are.
func (s *backups) manifests() (ids []string) {
	for _, name := range s.left() {
		if path.Base(name) == basebackup.ManifestFile {
			ids = append(ids, path.Dir(name))
		}
	}
	return ids
}

// unpack reads a stored file that a manifest or list vouches for.
func (s *backups) unpack(id string, ref basebackup.Ref) []byte {
	s.t.Helper()
	packed, ok := s.store.Bytes(s.root() + "/" + id + "/" + ref.Name)
	if !ok || int64(len(packed)) != ref.StoredSize {
		s.t.Fatalf("%s: there %v, %d bytes, want %d", ref.Name, ok, len(packed), ref.StoredSize)
	}
	c, err := stored.Decode(bytes.NewReader(packed), int64(len(packed)), stored.CodecOf(ref.Name), ref.Size, testKeys())
	if err != nil {
		s.t.Fatalf("%s: %v", ref.Name, err)
	}
	defer c.Close()
	b, err := io.ReadAll(c)
	if err != nil || int64(len(b)) != ref.Size || basebackup.Sum(c.Sum()) != ref.SHA256 {
		s.t.Fatalf("%s: %d bytes, SHA-256 %x, want %d, %x: %v", ref.Name, len(b), c.Sum(), ref.Size, ref.SHA256, err)
	}
	if c.HasRecord && c.Record.Name+stored.CodecOf(ref.Name).Extension() != ref.Name {
		s.t.Errorf("the record of %s says %s", ref.Name, c.Record.Name)
	}
	return b
}

// holdsBackup fails unless the backup is stored whole, with exactly what src gave.
func (s *backups) holdsBackup(id string, src *aSource) basebackup.Manifest {
	s.t.Helper()
	parsed, err := basebackup.ParseID(id)
	if err != nil {
		s.t.Fatal(err)
	}
	data, _ := s.store.Bytes(s.root() + "/" + id + "/" + basebackup.ManifestFile)
	m, err := basebackup.ParseManifest(data, parsed)
	if err != nil {
		s.t.Fatalf("%v\n%s", err, data)
	}
	var got []anEntry
	files := map[string]bool{basebackup.ManifestFile: true}
	var size, storedSize int64
	name := func(ref basebackup.Ref) []byte {
		files[ref.Name] = true
		storedSize += ref.StoredSize
		return s.unpack(id, ref)
	}
	for _, list := range m.Lists {
		err := basebackup.ReadParts(bytes.NewReader(name(list)), func(p basebackup.Part) error {
			t := tar.NewReader(bytes.NewReader(name(p.Ref)))
			for _, f := range p.Files {
				h, err := t.Next()
				if err != nil {
					return err
				}
				content, err := io.ReadAll(t)
				if err != nil {
					return err
				}
				if strings.TrimSuffix(h.Name, "/") != f.Path || h.Size != f.Size || uint32(h.Mode) != f.Mode ||
					!h.ModTime.Equal(f.ModTime.Truncate(time.Second)) || h.Linkname != f.Link {
					s.t.Errorf("the tar file has %+v where the list has %+v", h, f)
				}
				if f.Type == basebackup.Regular && basebackup.Sum(sha256.Sum256(content)) != *f.SHA256 {
					s.t.Errorf("%s: a wrong SHA-256", f.Path)
				}
				size += f.Size
				got = append(got, anEntry{basebackup.Entry{Tablespace: p.Tablespace, Path: f.Path, Type: f.Type, Size: f.Size, Mode: f.Mode, ModTime: f.ModTime, Link: f.Link}, content})
			}
			if _, err := t.Next(); err != io.EOF {
				s.t.Errorf("%s holds more than its list: %v", p.Name, err)
			}
			return nil
		})
		if err != nil {
			s.t.Fatal(err)
		}
	}
	if m.ServerManifest != nil {
		got = append(got, anEntry{basebackup.Entry{ServerManifest: true, Size: -1}, name(*m.ServerManifest)})
	}
	if m.Config != nil {
		name(*m.Config)
	}
	if len(got) != len(src.entries) {
		s.t.Fatalf("%d entries instead of %d", len(got), len(src.entries))
	}
	for i, want := range src.entries {
		g := got[i]
		if !g.ModTime.Equal(want.ModTime) {
			s.t.Errorf("%s: time %v, want %v", want.Path, g.ModTime, want.ModTime)
		}
		g.ModTime, want.ModTime = time.Time{}, time.Time{}
		if g.Entry != want.Entry || !bytes.Equal(g.content, want.content) {
			s.t.Errorf("entry %d: %+v (%d bytes) instead of %+v (%d bytes)", i, g.Entry, len(g.content), want.Entry, len(want.content))
		}
	}
	if size != m.Size || storedSize != m.StoredSize {
		s.t.Errorf("the manifest says %d bytes, %d stored; it is %d, %d", m.Size, m.StoredSize, size, storedSize)
	}
	for _, n := range s.left() {
		if path.Dir(n) == id && !files[path.Base(n)] {
			s.t.Errorf("nothing vouches for %s", n)
		}
	}
	return m
}
