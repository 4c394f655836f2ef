package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"walship/internal/basebackup"
	"walship/internal/stored"
	"walship/transport"
	"walship/transport/storetest"
	"walship/walname"
)

// Nothing is wrong with a whole archive, in any codec, and all of it is read.
func TestVerifyWhole(t *testing.T) {
	for _, codec := range stored.Written() {
		s := wholeArchive(t, codec)
		var begun int64
		var told atomic.Int64
		v := s.verifier()
		v.Jobs = 1
		v.Begun = func(n int64) { begun = n }
		v.Read = func(n int64) { told.Add(n) }
		verdict, err := v.Run(t.Context())
		if err != nil || len(verdict.Faults) > 0 || len(verdict.Warnings) > 0 || verdict.Skipped > 0 || verdict.Backups != 2 {
			t.Errorf("%s: %v, %+v", codec, err, verdict)
			continue
		}
		var files int64
		for _, name := range s.store.Names() {
			base := path.Base(name)
			if base != "walship.json" && base != basebackup.ManifestFile && !strings.HasSuffix(base, ".sha256") {
				files++
			}
		}
		read := told.Load()
		if verdict.Files != files || read < begun*9/10 || read == 0 {
			t.Errorf("%s: %d files of %d were read, %d bytes of %d", codec, verdict.Files, files, read, begun)
		}
	}
}

// Every single fault is found: a flipped bit anywhere, a file cut short, grown,
// emptied, lost, swapped with another, stored twice, or that of another cluster.
func TestVerifySingleFaults(t *testing.T) {
	whole := wholeArchive(t, stored.Zstd)
	names := slices.DeleteFunc(whole.store.Names(), func(n string) bool { return strings.HasSuffix(n, "walship.json") })
	content := make(map[string][]byte)
	for _, n := range whole.store.Names() {
		content[n], _ = whole.store.Bytes(n)
	}
	r := rand.New(rand.NewPCG(1, 2))
	tried := make(map[string]int)
	for i := range 160 {
		s := &backups{site: &site{t: t, data: whole.data, store: storetest.NewMemory()}}
		for n, b := range content {
			if err := s.store.Plant(n, b); err != nil {
				t.Fatal(err)
			}
			if err := s.store.Age(n, 48*time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		name := names[i%len(names)]
		what := s.harm(r, name, names)
		if what == "" {
			continue
		}
		tried[strings.Fields(what)[0]]++
		v, err := s.verifier().Run(t.Context())
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if len(v.Faults) == 0 {
			t.Errorf("%s: not found", what)
		}
		for _, f := range v.Faults {
			if f.What == "" || f.Means == "" || strings.Contains(f.What+f.Means, "\n") {
				t.Errorf("%s: %+v", what, f)
			}
		}
	}
	if len(tried) != 7 {
		t.Errorf("faults: %v", tried)
	}
}

// What each fault means for recovery is said in its own words.
func TestVerifyMeanings(t *testing.T) {
	one, two := aBackup, "00000002000000000000000B-20261122T124500Z"
	for _, c := range []struct {
		what string
		do   func(*backups)
		says []string // parts of the lines
	}{
		{"a segment of the first backup", func(s *backups) { s.flip(s.stem(seg7) + ".zst") },
			[]string{"damaged", seg7, "recovery on timeline 1 stops before 0/700000; backup " + one + " cannot be restored; backups after " + seg7 + " are not affected"}},
		{"a segment between the backups", func(s *backups) { s.flip(s.stem(seg9) + ".zst") },
			[]string{"recovery on timeline 1 stops before 0/900000; from 1 backup only up to there; backups after " + seg9 + " are not affected"}},
		{"two segments are lost", func(s *backups) { s.lose("000000010000000000000008"); s.lose(seg9) },
			[]string{"missing", "2 segments are missing, up to " + seg9, "stops before 0/800000; from 1 backup only up to there; backups after " + seg9 + " are not affected"}},
		{"the last one is lost", func(s *backups) { s.lose("00000002000000000000000C") },
			[]string{"backup " + two + " needs it", "recovery on timeline 2 stops before 0/C00000; backup " + two + " cannot be restored; from 1 backup only up to there"}},
		{"the history", func(s *backups) { s.flip(s.stem(fork2) + ".zst") }, []string{"no recovery can go on to timeline 2 from an older one"}},
		{"the history is lost", func(s *backups) { s.lose(fork2) }, []string{"missing", "there is WAL of the timeline, and of older ones"}},
		{"the partial segment", func(s *backups) { s.flip(s.stem("00000001000000000000000A.partial") + ".zst") }, []string{"only a recovery that is to end on timeline 1"}},
		{"the label", func(s *backups) { s.flip(s.stem("000000010000000000000008.00000028.backup") + ".zst") }, []string{"recovery does not need it"}},
		{"a part", func(s *backups) { s.flip(s.root() + "/" + one + "/base-000001.tar.zst") }, []string{"backup " + one + " cannot be restored; WAL and other backups are not affected"}},
		{"a list", func(s *backups) { s.flip(s.root() + "/" + one + "/files-000001.jsonl.zst") }, []string{"backup " + one + " cannot be restored"}},
		{"a manifest", func(s *backups) { s.flip(s.root() + "/" + one + "/manifest.json") }, []string{"backup " + one + " cannot be restored"}},
		{"a manifest is lost", func(s *backups) { s.loseFile(s.root() + "/" + one + "/manifest.json"); s.age() }, []string{"it is no backup"}},
		{"a second form", func(s *backups) { s.copy(s.stem(seg7)+".zst", s.stem(seg7)+".gz") }, []string{"duplicate", "is stored twice"}},
		{"a strange file", func(s *backups) { s.copy(s.stem(seg7)+".zst", path.Dir(s.stem(seg7))+"/x y") }, []string{"unknown", "nothing reads it"}},
	} {
		s := wholeArchive(t, stored.Zstd)
		c.do(s)
		text := faultsOf(s.verify())
		for _, part := range c.says {
			if !strings.Contains(text, part) {
				t.Errorf("%s: %s\ndoes not say %q", c.what, text, part)
			}
		}
	}
}

// Files whose header does not fit are found although their record does.
func TestVerifyHeaders(t *testing.T) {
	s := wholeArchive(t, stored.Zstd)
	content := s.segment("000000010000000000000003", fixture(t, small, seg6))
	p := &plot{t: t, c: s.cluster(), g: s.data.Geometry()}
	s.plant(s.stem(seg7)+".zst", p.stored(seg7, content))
	if text := faultsOf(s.verify()); !strings.Contains(text, "the page address is 0/300000, expected 0/700000") {
		t.Error(text)
	}
	v := s.verifier()
	v.HeaderCheck = false
	if verdict, err := v.Run(t.Context()); err != nil || len(verdict.Faults) > 0 {
		t.Error(err, faultsOf(verdict))
	}
	// A magic that nobody knows is for a warning, if the rest fits.
	s = wholeArchive(t, stored.Zstd)
	content = s.segment(seg7, fixture(t, small, seg6))
	content[0] = 0xFF
	s.plant(s.stem(seg7)+".zst", p.stored(seg7, content))
	if verdict := s.verify(); len(verdict.Faults) > 0 || len(verdict.Warnings) != 1 || !strings.Contains(verdict.Warnings[0], seg7) {
		t.Error(faultsOf(verdict), verdict.Warnings)
	}
}

// An archive that cannot be reached gives no verdict. A file that cannot be read
// is a fault, and a connection that broke once is nothing.
func TestVerifyStoreFails(t *testing.T) {
	lost := fmt.Errorf("%w: gone", transport.ErrUnreachable)
	s := wholeArchive(t, stored.Zstd)
	for n := 0; ; n++ {
		reached := s.store.Fail(n, storetest.Fault{Err: errors.New("input/output error")})
		v, err := s.verifier().Run(t.Context())
		if !reached() {
			if err != nil || len(v.Faults) > 0 || n < 60 {
				t.Error(n, err)
			}
			break
		}
		if err == nil && len(v.Faults) == 0 {
			t.Errorf("step %d: nothing was wrong", n)
		}
	}
	for _, name := range []string{s.stem(seg7) + ".zst", s.root() + "/" + aBackup + "/base-000002.tar.zst", s.root() + "/" + aBackup + "/files-000001.jsonl.zst"} {
		for _, times := range []int{1, 2, 99} {
			n := 0
			s.store.Hook(func(step storetest.Step) storetest.Fault {
				if step.Op == "read" && step.Name == name {
					if n++; n <= times {
						return storetest.Fault{Err: lost, Applied: true}
					}
				}
				return storetest.Fault{}
			})
			v := s.verifier()
			v.Jobs = 1
			verdict, err := v.Run(t.Context())
			s.store.Hook(nil)
			switch {
			case times < 3 && (err != nil || len(verdict.Faults) > 0):
				t.Errorf("%s fails %d times: %v", name, times, err)
			case times == 99 && !errors.Is(err, transport.ErrUnreachable):
				t.Errorf("%s is lost: %v", name, err)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.verifier().Run(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A call that is broken off anywhere goes on where it was, reads nothing twice
// but what was under way, and finds what both together should.
func TestVerifyResume(t *testing.T) {
	s := wholeArchive(t, stored.Zstd)
	s.flip(s.stem(seg7) + ".zst")
	s.flip(s.stem("00000002000000000000000B") + ".zst")
	s.flip(s.root() + "/" + aBackup + "/base-000001.tar.zst")
	full := s.verify()
	want := faultsOf(full)
	for stop := 1; ; stop++ {
		var last *Progress
		n := 0
		v := s.verifier()
		v.Save = func(p *Progress) error {
			last = &Progress{}
			*last = *p
			last.Backups, last.Faults = slices.Clone(p.Backups), slices.Clone(p.Faults)
			if n++; n == stop {
				return errors.New("broken off")
			}
			return nil
		}
		_, err := v.Run(t.Context())
		if err == nil {
			if stop < 4 {
				t.Errorf("it saved its state %d times", stop-1)
			}
			break
		}
		var mu sync.Mutex
		var read []string
		s.store.Hook(func(step storetest.Step) storetest.Fault {
			if step.Op == "open" {
				mu.Lock()
				read = append(read, step.Name)
				mu.Unlock()
			}
			return storetest.Fault{}
		})
		v = s.verifier()
		v.Jobs = 1
		v.Resume = last
		verdict, err := v.Run(t.Context())
		s.store.Hook(nil)
		if err != nil || faultsOf(verdict) != want {
			t.Errorf("stop %d: %v\n%s\nwant\n%s", stop, err, faultsOf(verdict), want)
		}
		if last.Others && slices.ContainsFunc(read, func(n string) bool { return strings.Contains(n, "/refused/") }) || len(last.Backups) > 0 && slices.ContainsFunc(read, func(n string) bool { return strings.Contains(n, last.Backups[0]) }) {
			t.Errorf("stop %d: read again: %q", stop, read)
		}
	}
}

// Only what is asked for is read.
func TestVerifyScope(t *testing.T) {
	s := wholeArchive(t, stored.Zstd)
	s.age()
	s.flip(s.stem(seg6) + ".zst") // and is young by that
	if err := s.store.Age(s.stem(seg6)+".zst", 48*time.Hour); err != nil {
		t.Fatal(err)
	}
	young := s.stem("00000002000000000000000B") + ".zst"
	if err := s.store.Age(young, 0); err != nil {
		t.Fatal(err)
	}
	run := func(scope Scope) *Verdict {
		t.Helper()
		v := s.verifier()
		v.Scope = scope
		verdict, err := v.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return verdict
	}
	if v := run(Scope{WAL: true}); len(v.Faults) != 1 || v.Files != 11 || v.Backups != 0 {
		t.Errorf("WAL: %d files, %s", v.Files, faultsOf(v))
	}
	if v := run(Scope{Backups: true}); len(v.Faults) != 0 || v.Backups != 2 || v.Files < 20 {
		t.Errorf("backups: %d files, %s", v.Files, faultsOf(v))
	}
	if v := run(Scope{WAL: true, Backups: true, Since: time.Now().Add(-time.Hour)}); len(v.Faults) != 0 || v.Files != 1 || v.Skipped != 10 {
		t.Errorf("since: %d files, %d skipped, %s", v.Files, v.Skipped, faultsOf(v))
	}
	if v := run(Scope{WAL: true, Backups: true, From: mustSegment(seg9)}); len(v.Faults) != 0 || v.Backups != 1 || v.Skipped != 4 {
		t.Errorf("from: %d files, %d skipped, %d backups, %s", v.Files, v.Skipped, v.Backups, faultsOf(v))
	}
	// A hole is of interest only within what is asked for.
	s.lose(seg7)
	if v := run(Scope{WAL: true, From: mustSegment(seg9)}); len(v.Faults) != 0 {
		t.Error(faultsOf(v))
	}
	if v := run(Scope{WAL: true, Since: time.Now().Add(-time.Hour)}); len(v.Faults) != 0 {
		t.Error(faultsOf(v))
	}
}

// A sample is about as large as asked for, the same for the same seed, and
// another for another.
func TestVerifySample(t *testing.T) {
	pick := func(scope Scope) (names []string) {
		for i := range 20000 {
			if name := fmt.Sprintf("7710000000000000001/wal/0000000100000000/%024X.zst", i); scope.chosen(name) {
				names = append(names, name)
			}
		}
		return names
	}
	for _, share := range []float64{0.01, 0.1, 0.5} {
		got := pick(Scope{Sample: share, Seed: 1})
		if n := float64(len(got)) / 20000; n < share*0.75 || n > share*1.25 {
			t.Errorf("%g of all instead of %g", n, share)
		}
		if !slices.Equal(got, pick(Scope{Sample: share, Seed: 1})) || slices.Equal(got, pick(Scope{Sample: share, Seed: 2})) {
			t.Errorf("%g: the seed does not matter as it should", share)
		}
	}
	if n := len(pick(Scope{})); n != 20000 {
		t.Errorf("without a sample %d", n)
	}
}

// A prune may remove files while they are to be read: what it leaves counts.
func TestVerifyBesidePrune(t *testing.T) {
	s := wholeArchive(t, stored.Zstd)
	gone := false
	s.store.Hook(func(step storetest.Step) storetest.Fault {
		if step.Op == "open" && strings.Contains(step.Name, seg6) && !gone {
			gone = true
			return storetest.Fault{Err: fmt.Errorf("open: %w", fs.ErrNotExist)}
		}
		return storetest.Fault{}
	})
	v, err := s.verifier().Run(t.Context())
	s.store.Hook(nil)
	if err != nil || len(v.Faults) != 0 || len(v.Warnings) != 1 {
		t.Error(err, faultsOf(v), v.Warnings)
	}
}

// What a record or a voucher says is looked at also where no page header would
// tell.
func TestVerifyRecords(t *testing.T) {
	for _, c := range []struct {
		what  string
		codec stored.Codec
		do    func(*backups)
		says  string
	}{
		{"another segment", stored.Zstd, func(s *backups) { s.copy(s.stem(seg6)+".zst", s.stem(seg7)+".zst") }, `its record says that it is "` + seg6},
		{"another cluster's", stored.Zstd, func(s *backups) {
			p := &plot{t: t, c: s.cluster(), g: s.data.Geometry()}
			p.c.SystemID++
			s.plant(s.stem(fork2)+".zst", p.stored(fork2, fixture(t, small, fork2)))
		}, "of cluster"},
		{"another segment size", stored.Zstd, func(s *backups) {
			p := &plot{t: t, c: s.cluster(), g: walname.Geometry{SegmentSize: 2 << 20}}
			s.plant(s.stem(fork2)+".zst", p.stored(fork2, fixture(t, small, fork2)))
		}, "segments have 2097152 bytes"},
		{"a short segment", stored.Zstd, func(s *backups) {
			p := &plot{t: t, c: s.cluster(), g: s.data.Geometry()}
			s.plant(s.stem(seg7)+".zst", p.stored(seg7, fixture(t, small, seg6)[:8192]))
		}, "has 8192 bytes"},
		{"no record", stored.Zstd, func(s *backups) {
			b, _ := s.store.Bytes(s.stem(seg7) + ".zst")
			s.plant(s.stem(seg7)+".zst", b[512:])
		}, "carries no record"},
		{"plain, changed", stored.Plain, func(s *backups) { s.flip(s.stem(seg7)) }, "for which nothing vouches"},
		{"plain, another voucher", stored.Plain, func(s *backups) {
			for _, name := range s.store.Names() {
				if strings.Contains(name, seg7+".") && strings.HasSuffix(name, ".sha256") {
					s.flip(name)
				}
			}
		}, "does not say so"},
		{"another partial segment's name", stored.Zstd, func(s *backups) {
			name := "00000001000000000000000A.partial"
			s.copy(s.stem(name)+".zst", strings.Replace(s.stem(name), ".partial", ".01234567.partial", 1)+".zst")
		}, "its name says 01234567"},
		{"set aside, another one", stored.Zstd, func(s *backups) {
			for _, name := range s.store.Names() {
				if strings.Contains(name, "/refused/") {
					s.copy(s.stem(seg6)+".zst", name)
				}
			}
		}, "which its name does not say"},
		{"a label of another place", stored.Zstd, func(s *backups) {
			p := &plot{t: t, c: s.cluster(), g: s.data.Geometry()}
			s.plant(s.stem("000000010000000000000007.00000028.backup")+".zst",
				p.stored("000000010000000000000007.00000028.backup", fixture(t, small, "000000010000000000000008.00000028.backup")))
		}, "it says that the backup begins at 0/800028"},
		{"histories that contradict each other", stored.Zstd, func(s *backups) {
			p := &plot{t: t, store: s.store, c: s.cluster(), g: s.data.Geometry()}
			p.history(3, fork{1, 7}, fork{2, 12})
		}, "it says other things than that one's own history"},
		{"a history with more ancestors", stored.Zstd, func(s *backups) {
			p := &plot{t: t, store: s.store, c: s.cluster(), g: s.data.Geometry()}
			s.plant(s.stem("00000004.history")+".zst", p.stored("00000004.history", []byte("3\t0/C00100\tx\n")))
			p.history(5, fork{1, 7}, fork{2, 12}, fork{3, 12}, fork{4, 12})
		}, "more ancestors than"},
	} {
		s := wholeArchive(t, c.codec)
		c.do(s)
		v := s.verifier()
		v.HeaderCheck = false
		verdict, err := v.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if text := faultsOf(verdict); !strings.Contains(text, c.says) {
			t.Errorf("%s: %s\ndoes not say %q", c.what, text, c.says)
		}
	}
}

// What a list says is compared with what is in its parts, and what the manifest
// says with its lists, also where every file is itself whole.
func TestVerifyLists(t *testing.T) {
	for _, c := range []struct {
		what   string
		change func(*basebackup.Part)
		says   string
	}{
		{"a file's sum", func(p *basebackup.Part) { p.Files[len(p.Files)-1].SHA256 = &basebackup.Sum{1} }, "its list says otherwise"},
		{"a file's name", func(p *basebackup.Part) { p.Files[len(p.Files)-1].Path = "other" }, "where its list names other"},
		{"a file's mode", func(p *basebackup.Part) { p.Files[len(p.Files)-1].Mode = 0o777 }, "is not of the kind, size, mode or time"},
		{"a file less", func(p *basebackup.Part) { p.Files = p.Files[:len(p.Files)-1] }, "which its list does not name"},
		{"a file more", func(p *basebackup.Part) { p.Files = append(p.Files, p.Files[len(p.Files)-1]) }, "it tells of 19 files"},
		{"a part's sum", func(p *basebackup.Part) { p.SHA256[0]++ }, "are vouched for"},
	} {
		s := wholeArchive(t, stored.Zstd)
		s.relist(aBackup, c.change)
		if text := faultsOf(s.verify()); !strings.Contains(text, c.says) || !strings.Contains(text, "backup "+aBackup+" cannot be restored") {
			t.Errorf("%s: %s\ndoes not say %q", c.what, text, c.says)
		}
	}
	s := wholeArchive(t, stored.Plain)
	s.flip(s.root() + "/" + aBackup + "/base-000003.tar")
	if text := faultsOf(s.verify()); !strings.Contains(text, "are vouched for") {
		t.Error(text)
	}
}
