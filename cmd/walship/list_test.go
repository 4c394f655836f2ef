package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"walship/archive"
	"walship/internal/basebackup"
	"walship/internal/layout"
	"walship/internal/stored"
	"walship/transport"
	"walship/transport/storetest"
	"walship/walname"
)

var update = flag.Bool("update", false, "write the golden files anew, to be judged by eye")

// golden compares text with a file of testdata.
func golden(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("%s: got\n%swant\n%s", path, text, want)
	}
}

// noon is a moment by the archive's clock.
var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// shelf is an archive of names, whose times are told.
type shelf struct {
	*storetest.Memory
	t testing.TB
	layout.Cluster
	g walname.Geometry
}

func newShelf(t testing.TB, systemID uint64) *shelf {
	t.Helper()
	s := &shelf{storetest.NewMemory(), t, layout.Cluster{SystemID: systemID}, walname.Geometry{SegmentSize: 16 << 20}}
	s.init(s.Cluster)
	return s
}

func (s *shelf) init(c layout.Cluster) {
	s.t.Helper()
	id := layout.Identity{SystemID: c.SystemID, SegmentSize: s.g.SegmentSize, Codec: "zstd", Created: noon}
	s.plant(c.IdentityFile(), id.Marshal())
}

func (s *shelf) plant(name string, content []byte) {
	s.t.Helper()
	if err := s.Plant(name, content); err != nil {
		s.t.Fatal(err)
	}
}

// List tells times that depend on the names alone: that of a segment is its
// place, in minutes from noon.
func (s *shelf) List(ctx context.Context, dir string, fn func(transport.FileInfo) error) error {
	return s.Memory.List(ctx, dir, func(e transport.FileInfo) error {
		e.ModTime = noon
		if n, ok := layout.ParseStored(e.Name, []string{".zst"}); ok && n.Kind == walname.KindSegment {
			e.ModTime = noon.Add(time.Duration(s.g.Number(n.Segment)) * time.Minute)
		}
		return fn(e)
	})
}

// wal puts the segments from one place to another there, each of 4 MB less 1,000
// bytes for each place.
func (s *shelf) wal(tl walname.Timeline, first, last uint64) {
	s.t.Helper()
	for at := first; at <= last; at++ {
		seg := s.g.FromNumber(tl, at)
		s.plant(path.Join(s.LogFolder(seg), seg.String()+".zst"), make([]byte, 4000+at))
	}
}

func (s *shelf) history(tl walname.Timeline, text string) {
	s.t.Helper()
	stem := path.Join(s.Histories(), tl.String()+".history")
	e := stored.Encode(strings.NewReader(text), stored.Zstd, int64(len(text)))
	defer e.Stop()
	err := s.Put(context.Background(), stem+".zst", transport.Source{Write: func(w io.WriterAt) error {
		return e.WriteTo(w, stored.Record{Name: path.Base(stem), SystemID: s.SystemID, SegmentSize: s.g.SegmentSize, Version: "15", Time: noon}, stored.Seal{})
	}})
	if err != nil {
		s.t.Fatal(err)
	}
}

// backup puts a base backup there that began a minute before the segment of its
// start was stored.
func (s *shelf) backup(tl walname.Timeline, start, end walname.LSN) string {
	s.t.Helper()
	id := basebackup.ID{Start: s.g.At(tl, start)}
	id.Time = noon.Add(time.Duration(s.g.Number(id.Start)-1) * time.Minute)
	m := basebackup.Manifest{
		Backup: id.String(), SystemID: s.SystemID, PostgreSQL: "15", Server: "15.5", SegmentSize: s.g.SegmentSize, Method: "protocol",
		Begin: id.Time, End: id.Time.Add(40 * time.Second), Timeline: tl, StartLSN: start, EndLSN: end, Files: 900, Size: 30_000_000, StoredSize: 5_000,
	}
	text, err := m.Marshal()
	if err != nil {
		s.t.Fatal(err)
	}
	dir := basebackup.Folder(s.Cluster, id)
	s.plant(path.Join(dir, "base-000001.tar.zst"), make([]byte, 4900))
	s.plant(path.Join(dir, "files-000001.jsonl.zst"), make([]byte, 100))
	s.plant(path.Join(dir, basebackup.ManifestFile), text)
	return dir
}

// output is what a lister writes.
func output(t *testing.T, s archive.Reader, o listOptions, p paint, asJSON bool, want error) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l := &lister{program: &program{voice: &voice{out: f, err: f}}, store: s, listOptions: o, paint: p}
	root, err := archive.LookAtRoot(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	c := choice{root: root, list: root.Clusters, all: len(root.Clusters) != 1}
	if asJSON {
		err = l.json(t.Context(), c, "file:///srv/wal")
	} else {
		err = l.text(t.Context(), c)
	}
	if !errors.Is(err, want) {
		t.Fatal(err)
	}
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// plain is how a pipe is written to in the C locale.
var plain = paint{ascii: true, width: 80, zone: time.UTC}

// story is an archive with everything in it.
func story(t *testing.T) *shelf {
	s := newShelf(t, 7710922645055258694)
	s.wal(1, 2, 9)
	s.wal(1, 12, 25)
	s.wal(2, 20, 30)
	s.wal(3, 30, 41)
	s.wal(4, 15, 16)
	s.wal(5, 23, 24)
	s.history(2, "1\t0/14000148\tno recovery target specified\n")
	s.history(3, "1\t0/14000148\tno recovery target specified\n2\t0/1E000000\tno recovery target specified\n")
	s.history(4, "1\t0/F000148\tbefore 2026-11-22 11:00:00\n")
	s.history(5, "1\t0/14000148\tno recovery target specified\n2\t0/17000148\tat restore point \"try\"\n")
	s.backup(1, 0x2000028, 0x2000138)
	s.backup(1, 0xC000028, 0xC000138)
	s.backup(2, 0x15000028, 0x15000138)
	damaged := s.backup(3, 0x20000028, 0x20000138)
	s.plant(damaged+"/base-000001.tar.zst", make([]byte, 4800))
	s.backup(3, 0x2A000028, 0x2A000138) // of which no WAL is there
	s.plant(basebackup.Root(s.Cluster)+"/000000030000000000000028-20261122T124000Z/base-000001.tar.zst", make([]byte, 899))
	s.plant(s.LogFolder(s.g.FromNumber(1, 2))+"/000000010000000000000014.partial.zst", make([]byte, 4000))
	s.plant(s.LogFolder(s.g.FromNumber(1, 2))+"/000000010000000000000002.00000028.backup.zst", make([]byte, 700))
	s.plant(s.LogFolder(s.g.FromNumber(3, 2))+"/00000003000000000000001F.zst", nil)
	s.plant(s.Refused()+"/000000010000000000000014.0badc0de.zst", make([]byte, 700))
	s.plant(s.Tmp()+"/000000030000000000000029.zst.0123456789abcdef.tmp", make([]byte, 700))
	s.plant(s.WAL()+"/README\x1b[31m", make([]byte, 700))
	s.plant("000000010000000000000001.gz", make([]byte, 700))
	return s
}

func TestListText(t *testing.T) {
	for _, c := range []struct {
		name string
		s    archive.Reader
		o    listOptions
	}{
		{"list.txt", story(t), listOptions{per: "hour"}},
		{"list-long.txt", story(t), listOptions{long: true, since: noon.Add(30 * time.Minute), timeline: 3}},
		{"list-empty.txt", newShelf(t, 7710922645055258694), listOptions{}},
		{"list-several.txt", several(t), listOptions{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var want error
			if c.name == "list-several.txt" {
				want = archive.ErrArchive
			}
			text := output(t, c.s, c.o, plain, false, want)
			golden(t, c.name, text)
			for line := range strings.Lines(text) {
				if line = strings.TrimSuffix(line, "\n"); len(line) > 80 && !strings.Contains(line, "not this cluster's archive") {
					t.Errorf("%d columns: %s", len(line), line)
				}
				for _, r := range line {
					if r < ' ' || r > '~' {
						t.Errorf("%q in %q", r, line)
					}
				}
			}
		})
	}
}

// several is an archive of three clusters, one of which was not finished.
func several(t *testing.T) *shelf {
	s := newShelf(t, 7710922645055258694)
	s.wal(1, 2, 9)
	s.backup(1, 0x2000028, 0x2000138)
	other := &shelf{s.Memory, t, layout.Cluster{SystemID: 7710922645055258695}, s.g}
	other.init(other.Cluster)
	other.wal(1, 2, 3)
	other.wal(1, 5, 5)
	s.plant("7710922645055258696/wal/x", nil)
	return s
}

// On a terminal there are colours and lines, and no line is longer for it.
func TestListSigns(t *testing.T) {
	p := paint{colour: true, width: 80, zone: time.UTC}
	text := output(t, story(t), listOptions{per: "day"}, p, false, nil)
	for _, want := range []string{"├─● ", "│ ", "…", "█", "\x1b[1;31m", "\x1b[32m"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q", want)
		}
	}
	plainText := text
	for _, code := range []string{"1", "2", "1;31", "32", "33", "0"} {
		plainText = strings.ReplaceAll(plainText, "\x1b["+code+"m", "")
	}
	if strings.Contains(plainText, "\x1b") {
		t.Error("an escape of the archive's own")
	}
	for line := range strings.Lines(plainText) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	for _, red := range []string{"refused   ", "GAP  ", "DAMAGED"} {
		if !strings.Contains(text, "\x1b[1;31m"+red) {
			t.Errorf("%s is not red", red)
		}
	}
}

func TestListJSON(t *testing.T) {
	golden(t, "list.json", output(t, story(t), listOptions{per: "hour"}, plain, true, nil))
	for _, o := range []listOptions{{long: true}, {long: true, since: noon.AddDate(1, 0, 0)}} {
		var got struct {
			Version  int        `json:"format_version"`
			Files    []jsonFile `json:"files"`
			Clusters []jsonCluster
		}
		text := output(t, story(t), o, plain, true, nil)
		d := json.NewDecoder(strings.NewReader(text))
		if err := d.Decode(&got); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		rest, _ := io.ReadAll(d.Buffered())
		files := 8 + 14 + 11 + 12 + 2 + 2 + 2 + 4 // segments, a partial and a label, histories
		if !o.since.IsZero() {
			files = 0
		}
		if got.Version != 1 || got.Files == nil || len(got.Files) != files || len(got.Clusters) != 1 || len(bytes.TrimSpace(rest)) != 0 {
			t.Errorf("%d files, %d clusters, and then %q", len(got.Files), len(got.Clusters), rest)
		}
	}
}

// Failovers one after the other stay in one column, however many there are.
func TestListManyFailovers(t *testing.T) {
	s := newShelf(t, 7710922645055258694)
	lines := ""
	for tl := walname.Timeline(1); tl <= 40; tl++ {
		at := uint64(tl) * 3
		s.wal(tl, at, at+3)
		if tl > 1 {
			s.history(tl, lines)
		}
		lines += fmt.Sprintf("%d\t0/%X000148\tno recovery target specified\n", tl, at+3)
	}
	text := output(t, s, listOptions{}, plain, false, nil)
	for tl := 1; tl <= 40; tl++ {
		if !strings.Contains(text, fmt.Sprintf("\no timeline %d", tl)) {
			t.Fatalf("timeline %d:\n%s", tl, text)
		}
	}
	if strings.Contains(text, "missing") {
		t.Errorf("a gap:\n%s", text)
	}
}

func TestListTimelineAbsent(t *testing.T) {
	output(t, newShelf(t, 7), listOptions{timeline: 9}, plain, false, archive.ErrArchive)
}

func TestParseSince(t *testing.T) {
	zone := time.FixedZone("X", 3600)
	for text, want := range map[string]time.Time{
		"30d": noon.AddDate(0, 0, -30), "12h": noon.Add(-12 * time.Hour),
		"2026-11-20":           time.Date(2026, 11, 20, 0, 0, 0, 0, zone),
		"2026-11-20 14:30":     time.Date(2026, 11, 20, 14, 30, 0, 0, zone),
		"2026-11-20 14:30:15":  time.Date(2026, 11, 20, 14, 30, 15, 0, zone),
		"2026-11-20T14:30:15Z": time.Date(2026, 11, 20, 14, 30, 15, 0, time.UTC),
	} {
		if got, err := parseSince(text, noon, zone); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "x", "30", "-3d", "2026", "20.11.2026"} {
		if got, err := parseSince(text, noon, zone); !errors.Is(err, errUsage) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

// Colours and signs are only for who can show them.
func TestPaint(t *testing.T) {
	for _, c := range []struct {
		all, ctype, lang string
		utf8             bool
	}{
		{"", "", "", false}, {"", "", "C", false}, {"", "", "en_US.UTF-8", true}, {"", "", "C.utf8", true},
		{"C", "", "en_US.UTF-8", false}, {"", "de_DE", "en_US.UTF-8", false}, {"", "de_DE.UTF-8", "C", true},
	} {
		t.Setenv("LC_ALL", c.all)
		t.Setenv("LC_CTYPE", c.ctype)
		t.Setenv("LANG", c.lang)
		f, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		p := (&voice{out: f, err: f}).paint()
		f.Close()
		if p.ascii == c.utf8 || p.colour || p.width != 80 {
			t.Errorf("%+v: %+v", c, p)
		}
	}
	if got := (paint{}).red("x"); got != "x" {
		t.Errorf("%q", got)
	}
}
