package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"testing"
	"time"

	"walship/internal/basebackup"
	"walship/internal/stored"
	"walship/walname"
)

// whole is an archive with nothing wrong with it: segments 6 to 9 of timeline 1
// and from 9 on of timeline 2, a label, a partial segment, what was set aside,
// and two backups. The first begins with the first segment, the second ends with
// the last, so that each file has its place between others.
func wholeArchive(t testing.TB, codec stored.Codec) *backups {
	t.Helper()
	s := newBackups(t, codec)
	for _, name := range s.store.Names() {
		if strings.Contains(name, "/wal/") {
			if err := s.store.Remove(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
	}
	like := fixture(t, small, seg6)
	push := func(name string, content []byte) { s.mustPush(name, content) }
	for _, name := range []string{seg6, seg7, "000000010000000000000008"} {
		push(name, s.segment(name, like))
	}
	push("000000010000000000000008.00000028.backup", fixture(t, small, "000000010000000000000008.00000028.backup"))
	push(seg9, fixture(t, small, seg9))
	push("00000001000000000000000A.partial", fixture(t, small, "00000001000000000000000A.partial"))
	push(fork2, fixture(t, small, fork2))
	for _, name := range []string{"00000002000000000000000A", "00000002000000000000000B", "00000002000000000000000C"} {
		push(name, s.segment(name, like))
	}
	if _, err := s.SetAside(t.Context(), s.data, s.data.WALDir()+"/"+seg7, seg7); err != nil {
		t.Fatal(err)
	}
	for i, first := range []string{seg6, "00000002000000000000000B"} {
		src := s.source()
		n, last := mustSegment(first), mustSegment([]string{seg7, "00000002000000000000000C"}[i])
		src.info.Timeline, src.end.Timeline = n.Timeline, n.Timeline
		src.info.StartLSN, src.end.EndLSN = s.data.Geometry().Start(n)+0x28, s.data.Geometry().Start(last)+0x100
		src.info.Begin = src.info.Begin.Add(time.Duration(i) * time.Hour)
		if i == 1 {
			src.entries[3].content = bytes.Repeat([]byte("y"), len(src.entries[3].content))
		}
		s.Config = []ConfigFile{{Path: "/etc/postgresql.conf", Mode: 0o644, Content: []byte("port = 5432\n")}}
		if _, err := s.Run(t.Context(), src.begin); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *backups) verifier() *Verifier {
	return &Verifier{Store: memory{s.store}, Cluster: s.cluster(), Keys: testKeys(), HeaderCheck: true, Jobs: 2, Scope: Scope{WAL: true, Backups: true}, pauses: []time.Duration{0, 0}}
}

func (s *backups) verify() *Verdict {
	s.t.Helper()
	v, err := s.verifier().Run(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return v
}

// faultsOf is what a verdict says, a line for each fault.
func faultsOf(v *Verdict) string {
	var lines []string
	for _, f := range v.Faults {
		lines = append(lines, fmt.Sprintf("%s %s: %s; %s", f.Kind, f.File, f.What, f.Means))
	}
	return strings.Join(lines, "\n")
}

// harm does one thing to the file, and says which; "" if it cannot be done to it.
func (s *backups) harm(r *rand.Rand, name string, names []string) string {
	b, _ := s.store.Bytes(name)
	b = bytes.Clone(b)
	plant := func(name string, b []byte) {
		if err := s.store.Plant(name, b); err != nil {
			s.t.Fatal(err)
		}
	}
	// Of what stands for itself the loss cannot be seen.
	alone := strings.Contains(name, ".partial") || strings.Contains(name, ".backup.") || strings.Contains(name, "/refused/")
	switch kind := r.IntN(7); {
	case kind == 0:
		at := r.IntN(len(b) * 8)
		b[at/8] ^= 1 << (at % 8)
		plant(name, b)
		return fmt.Sprintf("flip of bit %d of %s", at, name)
	case kind == 1:
		n := r.IntN(len(b))
		plant(name, b[:n])
		return fmt.Sprintf("cut of %s to %d bytes", name, n)
	case kind == 2:
		plant(name, append(b, byte(r.IntN(256))))
		return fmt.Sprintf("growth of %s", name)
	case kind == 3 && !alone:
		if err := s.store.Remove(s.t.Context(), name); err != nil {
			s.t.Fatal(err)
		}
		return "loss of " + name
	case kind == 4:
		other := names[r.IntN(len(names))]
		theirs, _ := s.store.Bytes(other)
		if bytes.Equal(theirs, b) {
			return ""
		}
		plant(name, theirs)
		plant(other, b)
		return fmt.Sprintf("swap of %s and %s", name, other)
	case kind == 5 && !strings.Contains(name, "/refused/"):
		to := []string{name + ".1", strings.TrimSuffix(name, ".zst") + ".gz", path.Dir(name) + "/" + "000000020000000000000099.zst"}[r.IntN(3)]
		plant(to, b)
		return fmt.Sprintf("copy of %s to %s", name, to)
	case kind == 6 && strings.Contains(name, "/wal/") && !alone:
		n := strings.TrimSuffix(path.Base(name), ".zst")
		f := &plot{t: s.t, c: s.cluster(), g: s.data.Geometry()}
		f.c.SystemID++
		plant(name, f.stored(n, bytes.Repeat([]byte{7}, int(s.data.Geometry().SegmentSize))))
		return "strange " + name
	}
	return ""
}

func (s *backups) flip(name string) {
	s.t.Helper()
	b, ok := s.store.Bytes(name)
	if !ok {
		s.t.Fatal(name, s.store.Names())
	}
	b[len(b)/2] ^= 4
	s.plant(name, b)
}

func (s *backups) plant(name string, b []byte) {
	if err := s.store.Plant(name, b); err != nil {
		s.t.Fatal(err)
	}
}

func (s *backups) lose(name string) { s.loseFile(s.stem(name) + ".zst") }

func (s *backups) loseFile(name string) {
	s.t.Helper()
	if err := s.store.Remove(context.Background(), name); err != nil {
		s.t.Fatal(err)
	}
}

func (s *backups) copy(from, to string) {
	b, _ := s.store.Bytes(from)
	s.plant(to, b)
}

// age makes everything two days old.
func (s *backups) age() {
	for _, name := range s.store.Names() {
		if err := s.store.Age(name, 48*time.Hour); err != nil {
			s.t.Fatal(err)
		}
	}
}

func mustSegment(name string) walname.Segment {
	n, err := walname.Parse(name)
	if err != nil {
		panic(err)
	}
	return n.Segment
}

// relist changes the last part of a backup's first list, and lets the manifest
// vouch for that.
func (s *backups) relist(id string, change func(*basebackup.Part)) {
	s.t.Helper()
	ok := func(err error) {
		s.t.Helper()
		if err != nil {
			s.t.Fatal(err)
		}
	}
	name := s.root() + "/" + id + "/"
	parsed, err := basebackup.ParseID(id)
	ok(err)
	text, _ := s.store.Bytes(name + basebackup.ManifestFile)
	m, err := basebackup.ParseManifest(text, parsed)
	ok(err)
	ref := &m.Lists[0]
	var parts []basebackup.Part
	ok(basebackup.ReadParts(bytes.NewReader(s.unpack(id, *ref)), func(p basebackup.Part) error { parts = append(parts, p); return nil }))
	change(&parts[len(parts)-1])
	var list bytes.Buffer
	for _, p := range parts {
		_, err := p.WriteTo(&list)
		ok(err)
	}
	p := &plot{t: s.t, c: s.cluster(), g: s.data.Geometry()}
	file := p.stored(strings.TrimSuffix(ref.Name, ".zst"), list.Bytes())
	m.StoredSize += int64(len(file)) - ref.StoredSize
	ref.Size, ref.StoredSize, ref.SHA256 = int64(list.Len()), int64(len(file)), sha256.Sum256(list.Bytes())
	s.plant(name+ref.Name, file)
	text, err = m.Marshal()
	ok(err)
	s.plant(name+basebackup.ManifestFile, text)
}
