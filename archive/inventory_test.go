package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"testing"
	"time"

	"walship/internal/basebackup"
	"walship/internal/layout"
	"walship/internal/stored"
	"walship/transport"
	"walship/transport/storetest"
	"walship/walname"
)

// stock is an archive that is made of names: the content of most files does not
// matter to who lists folders.
type stock struct {
	*storetest.Memory
	t testing.TB
	layout.Cluster
	geometry walname.Geometry
}

func newStock(t testing.TB, segmentSize int64, codec stored.Codec) *stock {
	t.Helper()
	s := &stock{storetest.NewMemory(), t, layout.Cluster{SystemID: 7710000000000000001}, walname.Geometry{SegmentSize: segmentSize}}
	id := layout.Identity{SystemID: s.SystemID, SegmentSize: segmentSize, Codec: string(codec), Created: time.Now()}
	s.plant(s.IdentityFile(), id.Marshal())
	return s
}

func (s *stock) plant(name string, content []byte) {
	s.t.Helper()
	if err := s.Plant(name, content); err != nil {
		s.t.Fatal(err)
	}
}

// wal puts segments, "1/2-6" from 02 to 06 of timeline 1, and other files of WAL
// there.
func (s *stock) wal(names ...string) {
	s.t.Helper()
	for _, name := range names {
		var tl, first, last uint64
		switch n, _ := fmt.Sscanf(name, "%d/%X-%X", &tl, &first, &last); n {
		case 2:
			last = first
			fallthrough
		case 3:
			for at := first; at <= last; at++ {
				seg := s.geometry.FromNumber(walname.Timeline(tl), at)
				s.plant(path.Join(s.LogFolder(seg), seg.String()+".zst"), make([]byte, 600))
			}
		default:
			s.plant(path.Join(s.WAL(), name[:16], name), make([]byte, 600))
		}
	}
}

// history puts a history file there, whose lines are like "1 0/6000148".
func (s *stock) history(tl walname.Timeline, lines ...string) {
	s.t.Helper()
	text := strings.ReplaceAll(strings.Join(lines, "\n")+"\n", " ", "\t")
	text = strings.ReplaceAll(text, "\n", "\tno recovery target specified\n")
	s.encoded(path.Join(s.Histories(), tl.String()+".history"), []byte(text), stored.Zstd)
}

// encoded stores content as push does.
func (s *stock) encoded(stem string, content []byte, codec stored.Codec) {
	s.t.Helper()
	e := stored.Encode(strings.NewReader(string(content)), codec, int64(len(content)))
	defer e.Stop()
	err := s.Put(context.Background(), stem+codec.Extension(), transport.Source{Write: func(w io.WriterAt) error {
		return e.WriteTo(w, stored.Record{Name: path.Base(stem), SystemID: s.SystemID, SegmentSize: s.geometry.SegmentSize, Version: "15", Time: time.Now()}, stored.Seal{})
	}})
	if err != nil {
		s.t.Fatal(err)
	}
}

// backup puts a base backup there, of 1,000 bytes.
func (s *stock) backup(tl walname.Timeline, start, end walname.LSN, begin time.Time) basebackup.ID {
	s.t.Helper()
	id := basebackup.ID{Start: s.geometry.At(tl, start), Time: begin.UTC().Truncate(time.Second)}
	m := basebackup.Manifest{
		Backup: id.String(), SystemID: s.SystemID, PostgreSQL: "15", Server: "15.5", SegmentSize: s.geometry.SegmentSize, Method: "protocol",
		Begin: begin, End: begin.Add(time.Minute), Timeline: tl, StartLSN: start, EndLSN: end, Files: 900, Size: 30_000_000, StoredSize: 1000,
	}
	text, err := m.Marshal()
	if err != nil {
		s.t.Fatal(err)
	}
	dir := basebackup.Folder(s.Cluster, id)
	s.plant(path.Join(dir, basebackup.PartName(0, 1)+".zst"), make([]byte, 900))
	s.plant(path.Join(dir, basebackup.ListName(1)+".zst"), make([]byte, 100))
	s.plant(path.Join(dir, basebackup.ManifestFile), text)
	return id
}

func (s *stock) take(look Look) *Inventory {
	s.t.Helper()
	inv, err := Take(s.t.Context(), s, s.Cluster, look)
	if err != nil {
		s.t.Fatal(err)
	}
	return inv
}

// sketch is an inventory in few words. Segments are told by their places.
func sketch(inv *Inventory) string {
	var b strings.Builder
	at := func(s walname.Segment) string { return fmt.Sprintf("%d/%X", s.Timeline, inv.Geometry.Number(s)) }
	to := func(first, last walname.Segment) string {
		if first == last {
			return at(first)
		}
		return fmt.Sprintf("%s-%X", at(first), inv.Geometry.Number(last))
	}
	for _, tl := range inv.Timelines {
		var runs []string
		for _, r := range tl.Runs {
			runs = append(runs, to(r.First, r.Last))
		}
		fmt.Fprintf(&b, "timeline %d: %d in %s", tl.ID, tl.Count, strings.Join(runs, " "))
		for _, p := range append(tl.Partials, tl.Labels...) {
			fmt.Fprintf(&b, " +%s", p.Name[16:])
		}
		b.WriteString("\n")
	}
	for _, g := range inv.Gaps {
		fmt.Fprintf(&b, "gap of %d: %s\n", g.Count, to(g.First, g.Last))
	}
	for _, k := range inv.Backups {
		r, ok := inv.Restorable(k)
		switch {
		case k.Manifest == nil:
			fmt.Fprintf(&b, "backup at %s: unfinished %s\n", at(k.ID.Start), strings.Split(k.Damage, ": ")[0])
		case !ok:
			fmt.Fprintf(&b, "backup at %s: lacks %s %s\n", at(k.ID.Start), at(r.Missing), k.Damage)
		case r.Whole():
			fmt.Fprintf(&b, "backup at %s: %s to %s on %d %s\n", at(k.ID.Start), r.From, r.To, r.Timeline, k.Damage)
		default:
			fmt.Fprintf(&b, "backup at %s: %s to %s on %d, then %s is missing %s\n", at(k.ID.Start), r.From, r.To, r.Timeline, at(r.Missing), k.Damage)
		}
	}
	if first, r, ok := inv.Covered(inv.Newest()); ok {
		fmt.Fprintf(&b, "covered: %s to %s\n", at(first), at(r.Last))
	}
	for _, r := range inv.Refused {
		fmt.Fprintf(&b, "refused: %s\n", r.Name)
	}
	for _, r := range inv.Broken {
		why, _, _ := strings.Cut(r.Why, ": ") // the rest is another package's
		fmt.Fprintf(&b, "broken: %s: %s\n", path.Base(r.Name), why)
	}
	if inv.Temporary.Count+inv.Strays.Count > 0 {
		fmt.Fprintf(&b, "temporary %d, strays %d\n", inv.Temporary.Count, inv.Strays.Count)
	}
	return b.String()
}

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

const (
	mb16 = 16 << 20
	mb64 = 64 << 20
	mb1  = 1 << 20
)

func TestInventory(t *testing.T) {
	for _, c := range []struct {
		name string
		size int64
		fill func(s *stock)
		want string
	}{
		{"empty", mb16, func(s *stock) {}, ""},
		{"one timeline", mb16, func(s *stock) { s.wal("1/2-6") }, `
timeline 1: 5 in 1/2-6
covered: 1/2 to 1/6`},
		{"over the end of a log", mb16, func(s *stock) { s.wal("1/FE-101") }, `
timeline 1: 4 in 1/FE-101
covered: 1/FE to 1/101`},
		{"64 MB segments over the end of a log", mb64, func(s *stock) { s.wal("1/3E-42") }, `
timeline 1: 5 in 1/3E-42
covered: 1/3E to 1/42`},
		{"what no segment of 64 MB can be", mb64, func(s *stock) { s.wal("1/3E", "000000010000000000000040.zst") }, `
timeline 1: 1 in 1/3E
covered: 1/3E to 1/3E
broken: 000000010000000000000040.zst: segment 000000010000000000000040`},
		{"gaps", mb16, func(s *stock) {
			s.wal("1/2-3", "1/5", "1/8-9")
			s.backup(1, 0x2000028, 0x2000138, noon)
			s.backup(1, 0x4000028, 0x5000138, noon.Add(time.Hour))
			s.backup(1, 0x5000028, 0x5000138, noon.Add(2*time.Hour))
			s.backup(1, 0x8000028, 0x9000138, noon.Add(3*time.Hour))
		}, `
timeline 1: 5 in 1/2-3 1/5 1/8-9
gap of 1: 1/4
gap of 2: 1/6-7
backup at 1/2: 0/2000138 to 0/4000000 on 1, then 1/4 is missing
backup at 1/4: lacks 1/4
backup at 1/5: 0/5000138 to 0/6000000 on 1, then 1/6 is missing
backup at 1/8: 0/9000138 to 0/A000000 on 1
covered: 1/8 to 1/9`},
		{"the end of a backup is not there", mb16, func(s *stock) {
			s.wal("1/2-3")
			s.backup(1, 0x2000028, 0x4000138, noon)
		}, `
timeline 1: 2 in 1/2-3
backup at 1/2: lacks 1/4
covered: 1/2 to 1/3`},
		{"a fork inside a segment", mb16, func(s *stock) {
			s.wal("1/2-7", "2/6-8", "000000010000000000000006.partial.zst")
			s.history(2, "1 0/6000148")
			s.backup(1, 0x3000028, 0x3000138, noon)
			s.backup(1, 0x6000028, 0x7000138, noon.Add(time.Hour))   // behind the fork
			s.backup(1, 0x5000028, 0x6000200, noon.Add(2*time.Hour)) // over it
		}, `
timeline 1: 6 in 1/2-7 +00000006.partial.zst
timeline 2: 3 in 2/6-8
backup at 1/3: 0/3000138 to 0/9000000 on 2
backup at 1/6: 0/7000138 to 0/8000000 on 1
backup at 1/5: 0/6000200 to 0/8000000 on 1
covered: 1/2 to 2/8`},
		{"a fork at the end of a segment", mb16, func(s *stock) {
			s.wal("1/2-5", "2/6-8")
			s.history(2, "1 0/6000000")
			s.backup(1, 0x3000028, 0x3000138, noon)
		}, `
timeline 1: 4 in 1/2-5
timeline 2: 3 in 2/6-8
backup at 1/3: 0/3000138 to 0/9000000 on 2
covered: 1/2 to 2/8`},
		{"a gap before a fork and one behind it", mb16, func(s *stock) {
			s.wal("1/2-3", "2/7-8")
			s.history(2, "1 0/5000148")
			s.backup(1, 0x3000028, 0x3000138, noon)
		}, `
timeline 1: 2 in 1/2-3
timeline 2: 2 in 2/7-8
gap of 1: 1/4
gap of 2: 2/5-6
backup at 1/3: 0/3000138 to 0/4000000 on 2, then 1/4 is missing
covered: 2/7 to 2/8`},
		{"a promotion of which no segment is there yet", mb16, func(s *stock) {
			s.wal("1/2-5")
			s.history(2, "1 0/6000148")
			s.backup(1, 0x3000028, 0x3000138, noon)
		}, `
timeline 1: 4 in 1/2-5
timeline 2: 0 in 
backup at 1/3: 0/3000138 to 0/6000000 on 2
covered: 1/2 to 1/5`},
		{"two failovers and a timeline that was given up", mb16, func(s *stock) {
			s.wal("1/2-4", "2/4-6", "3/6-7", "4/3-5")
			s.history(2, "1 0/4000148")
			s.history(3, "1 0/4000148", "2 0/6000148")
			s.history(4, "1 0/3000148") // recovered to a point before the first failover
			s.backup(1, 0x2000028, 0x2000138, noon)
			s.backup(2, 0x5000028, 0x5000138, noon.Add(time.Hour))
		}, `
timeline 1: 3 in 1/2-4
timeline 2: 3 in 2/4-6
timeline 3: 2 in 3/6-7
timeline 4: 3 in 4/3-5
backup at 1/2: 0/2000138 to 0/6000000 on 4
backup at 2/5: 0/5000138 to 0/7000000 on 2
covered: 1/2 to 4/5`},
		{"a timeline that nothing was written on", mb16, func(s *stock) {
			s.wal("1/2-4", "3/4-5")
			s.history(2, "1 0/4000148")
			s.history(3, "1 0/4000148", "2 0/4000200")
		}, `
timeline 1: 3 in 1/2-4
timeline 2: 0 in 
timeline 3: 2 in 3/4-5
covered: 1/2 to 3/5`},
		{"recovery that ended before its timeline began", mb16, func(s *stock) {
			s.wal("1/2-5", "1/7-8", "2/8-9", "3/5-6")
			s.history(2, "1 0/8000148")
			s.history(3, "1 0/8000148", "2 0/5000148")
			s.backup(1, 0x3000028, 0x3000138, noon)
			s.backup(1, 0x7000028, 0x7000138, noon.Add(time.Hour))
		}, `
timeline 1: 6 in 1/2-5 1/7-8
timeline 2: 2 in 2/8-9
timeline 3: 2 in 3/5-6
gap of 1: 1/6
backup at 1/3: 0/3000138 to 0/7000000 on 3
backup at 1/7: 0/7000138 to 0/9000000 on 1
covered: 1/2 to 3/6`},
		{"9.0 to 9.2: a fork within a segment, and at its end", mb16, func(s *stock) {
			s.wal("1/2-5", "2/5-7", "3/8-9")
			s.history(2, "1 000000010000000000000005")
			s.history(3, "1 000000010000000000000005", "2 000000020000000000000007")
		}, `
timeline 1: 4 in 1/2-5
timeline 2: 3 in 2/5-7
timeline 3: 2 in 3/8-9
covered: 1/2 to 3/9`},
		{"no history", mb16, func(s *stock) { s.wal("1/2-5", "2/5-7") }, `
timeline 1: 4 in 1/2-5
timeline 2: 3 in 2/5-7
covered: 2/5 to 2/7`},
		{"what was pruned is no gap", mb16, func(s *stock) {
			s.wal("2/8-9", "3/9")
			s.history(2, "1 0/4000148")
			s.history(3, "1 0/4000148", "2 0/9000148")
		}, `
timeline 2: 2 in 2/8-9
timeline 3: 1 in 3/9
covered: 2/8 to 3/9`},
		{"labels, partials, what was refused, what is on its way", mb16, func(s *stock) {
			s.wal("1/2-3", "000000010000000000000002.00000028.backup.zst", "000000010000000000000003.partial.zst",
				"000000010000000000000003.0badc0de.partial.gz", "000000010000000000000003.0badc0de.wrong.gz")
			s.plant(s.Refused()+"/000000010000000000000003.0badc0de.zst", make([]byte, 700))
			s.plant(s.Refused()+"/000000010000000000000002.zst.0badc0de.damaged", make([]byte, 700))
			s.plant(s.Tmp()+"/000000010000000000000004.zst.0123456789abcdef.tmp", make([]byte, 700))
			s.plant(s.WAL()+"/notes.txt", make([]byte, 700))
		}, `
timeline 1: 2 in 1/2-3 +00000003.0badc0de.partial.gz +00000003.partial.zst +00000002.00000028.backup.zst
covered: 1/2 to 1/3
refused: 000000010000000000000002.zst.0badc0de.damaged
refused: 000000010000000000000003.0badc0de.zst
temporary 1, strays 2`},
		{"several codecs", mb1, func(s *stock) {
			s.wal("1/2", "000000010000000000000002.gz", "000000010000000000000003.gz")
			stem := s.WAL() + "/0000000100000000/000000010000000000000004"
			s.plant(stem, make([]byte, mb1))
			s.plant(stem+"."+strings.Repeat("0a", 32)+".sha256", make([]byte, 90))
		}, `
timeline 1: 3 in 1/2-4
covered: 1/2 to 1/4`},
		{"torn files", mb1, func(s *stock) {
			dir := s.WAL() + "/0000000100000000/"
			s.plant(dir+"000000010000000000000002.zst", nil)
			s.plant(dir+"000000010000000000000003.zst", make([]byte, 511))
			s.plant(dir+"000000010000000000000004", make([]byte, mb1-1))
			s.plant(dir+"000000010000000000000005", make([]byte, mb1))
			s.wal("1/6")
			s.plant(s.Histories()+"/00000002.history.zst", make([]byte, 600))
		}, `
timeline 1: 1 in 1/6
timeline 2: 0 in 
broken: 00000002.history.zst: stored file is damaged
broken: 000000010000000000000002.zst: it is empty
broken: 000000010000000000000003.zst: it is too short
broken: 000000010000000000000004: it has not the size of a segment
broken: 000000010000000000000005: nothing vouches for it`},
		{"backups that are none", mb16, func(s *stock) {
			s.wal("1/2-5")
			s.backup(1, 0x3000028, 0x3000138, noon)
			id := s.backup(1, 0x2000028, 0x2000138, noon.Add(time.Hour))
			s.plant(basebackup.Folder(s.Cluster, id)+"/base-000001.tar.zst", make([]byte, 899))
			id = s.backup(1, 0x4000028, 0x4000138, noon.Add(2*time.Hour))
			text, _ := s.Bytes(basebackup.Folder(s.Cluster, id) + "/manifest.json")
			s.plant(basebackup.Folder(s.Cluster, id)+"/manifest.json", text[:len(text)-20])
			s.plant(basebackup.Root(s.Cluster)+"/000000010000000000000005-20261122T150000Z/base-000001.tar.zst", make([]byte, 899))
			s.plant(basebackup.Root(s.Cluster)+"/notes", make([]byte, 5))
		}, `
timeline 1: 4 in 1/2-5
backup at 1/3: 0/3000138 to 0/6000000 on 1
backup at 1/2: 0/2000138 to 0/6000000 on 1 its files have 999 bytes, 1000 were stored
backup at 1/4: unfinished its manifest
backup at 1/5: unfinished
covered: 1/2 to 1/5
temporary 0, strays 1`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStock(t, c.size, stored.Zstd)
			c.fill(s)
			got := strings.ReplaceAll(sketch(s.take(Look{})), " \n", "\n")
			want := strings.ReplaceAll(strings.TrimPrefix(c.want, "\n")+"\n", " \n", "\n")
			if c.want == "" {
				want = ""
			}
			if got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}

// 9.0 to 9.2 leave the last segment of each log out, which is no gap there, and
// one everywhere else.
func TestInventorySkippedSegment(t *testing.T) {
	for version, want := range map[string]int{"9.1": 0, "15": 1} {
		s := newSite(t, version, stored.Zstd)
		like := fixture(t, version, "000000010000000000000002")
		for _, name := range []string{"0000000100000000000000FD", "0000000100000000000000FE", "000000010000000100000000", "000000010000000100000001"} {
			s.mustPush(name, s.segment(name, like))
		}
		inv, err := Take(t.Context(), s.Store, s.cluster(), Look{})
		if err != nil {
			t.Fatal(err)
		}
		if len(inv.Gaps) != want || len(inv.Timelines[0].Runs) != want+1 || inv.Version != version {
			t.Errorf("%s: version %q, %d gaps, %d runs", version, inv.Version, len(inv.Gaps), len(inv.Timelines[0].Runs))
		}
	}
}

// What a real server pushed, in an archive of each codec.
func TestInventoryOfPushed(t *testing.T) {
	for _, codec := range stored.Written() {
		s := newSite(t, "17_seg1", codec)
		for _, name := range []string{seg6, seg7, "000000010000000000000008", "000000010000000000000008.00000028.backup", seg9, "00000001000000000000000A.partial", fork2, "00000002000000000000000A"} {
			s.mustPush(name, fixture(t, small, name))
		}
		inv, err := Take(t.Context(), s.Store, s.cluster(), Look{})
		if err != nil {
			t.Fatal(err)
		}
		end := ".partial" + codec.Extension() + " +00000008.00000028.backup" + codec.Extension()
		want := "timeline 1: 4 in 1/6-9 +0000000A" + end + "\ntimeline 2: 1 in 2/A\ncovered: 1/6 to 2/A\n"
		if got := sketch(inv); got != want || inv.Version != "17" {
			t.Errorf("%s, version %q:\n%swant\n%s", codec, inv.Version, got, want)
		}
	}
}

// What was stored before a time is left out of the counts, but is no gap.
func TestInventorySince(t *testing.T) {
	s := newStock(t, mb16, stored.Zstd)
	s.wal("1/2-6", "000000010000000000000002.partial.zst")
	for _, name := range []string{"000000010000000000000002.zst", "000000010000000000000003.zst", "000000010000000000000002.partial.zst"} {
		if err := s.Age(s.WAL()+"/0000000100000000/"+name, 25*time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	told := 0
	inv := s.take(Look{Since: time.Now().Add(-24 * time.Hour), Each: func(StoredFile) error { told++; return nil }})
	tl := inv.Timelines[0]
	if tl.Count != 3 || tl.Stored != 1800 || told != 3 || len(tl.Partials) != 0 || len(tl.Runs) != 1 || tl.Runs[0].First.Seg != 2 {
		t.Errorf("%+v, %d told", tl, told)
	}
	if _, err := Take(t.Context(), s, s.Cluster, Look{Each: func(StoredFile) error { return errors.New("enough") }}); err == nil || err.Error() != "enough" {
		t.Errorf("an error of Each: %v", err)
	}
}

// Nothing is said of an archive that does not show itself, nor of one that a
// listing has failed of.
func TestInventoryDoubt(t *testing.T) {
	s := newStock(t, mb16, stored.Zstd)
	s.wal("1/2-6", "1/102-105")
	s.history(2, "1 0/6000148")
	s.backup(1, 0x3000028, 0x3000138, noon)
	if _, err := Take(t.Context(), s, layout.Cluster{SystemID: 5}, Look{}); !errors.Is(err, ErrArchive) || transport.Hint(err) == "" {
		t.Errorf("another cluster: %v", err)
	}
	broken := errors.New("broken")
	for n := 0; ; n++ {
		reached := s.Fail(n, storetest.Fault{Err: broken, Applied: n%2 == 0})
		inv, err := Take(t.Context(), s, s.Cluster, Look{})
		if !reached() {
			if err != nil || n < 10 {
				t.Fatalf("after %d steps: %v", n, err)
			}
			break
		}
		if !errors.Is(err, broken) {
			t.Fatalf("step %d failed: %+v, %v", n, inv, err)
		}
	}
}

// The root tells its clusters, and WAL that another tool has left there.
func TestLookAtRoot(t *testing.T) {
	s := newStock(t, mb16, stored.Zstd)
	for _, name := range []string{"000000010000000000000007.lz4", "000000010000000000000005", "00000002.history", "lost+found/x", "123/x", "README"} {
		s.plant(name, make([]byte, 10))
	}
	r, err := LookAtRoot(t.Context(), s)
	if err != nil || len(r.Clusters) != 2 || r.Clusters[0].SystemID != 123 || r.Flat.Count != 3 || r.Flat.Size != 30 ||
		r.FlatFirst.Seg != 5 || r.FlatLast.Seg != 7 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := LookAtRoot(t.Context(), transport.NewLocal(t.TempDir()+"/absent", transport.Full)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an absent root: %v", err)
	}
}
