package walname

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"000000010000000A000000FE", "000000010000000A000000FE.partial", "00000002.history", "000000010000000000000003.00000028.backup",
		"000000000000000000000001", "000000010000000000001000", "", "../000000010000000A000000FE", "000000010000000A000000FE.partial.partial",
		"000000010000000a000000fe", "00000002.history\n", strings.Repeat("0", 1000),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := Parse(s)
		if err != nil {
			if n != (Name{}) || !errors.Is(err, ErrName) {
				t.Fatalf("Parse(%q) = %+v, %v", s, n, err)
			}
			checkMessage(t, err)
			return
		}
		if n.String() != s {
			t.Fatalf("Parse(%q) prints as %q", s, n)
		}
		if n.Timeline() == 0 || n.Segment.Seg >= 0x1000 || strings.Trim(s, "0123456789ABCDEF.abchikloprstuy") != "" {
			t.Fatalf("Parse(%q) = %+v", s, n)
		}
	})
}

func FuzzParseLSN(f *testing.F) {
	for _, s := range []string{"0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF", "0/05000c58", "", "/", "0/0/0", "+1/0", "0x1/1", "000000000/0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := ParseLSN(s)
		if err != nil {
			if l != 0 {
				t.Fatalf("ParseLSN(%q) = %s, %v", s, l, err)
			}
			checkMessage(t, err)
			return
		}
		high, low, _ := strings.Cut(strings.ToUpper(s), "/")
		if want := fmt.Sprintf("%08s/%08s", high, low); fmt.Sprintf("%08X/%08X", uint64(l)>>32, uint32(l)) != want {
			t.Fatalf("ParseLSN(%q) = %s", s, l)
		}
		if again, err := ParseLSN(l.String()); err != nil || again != l {
			t.Fatalf("ParseLSN(%q) = %s, %v", l.String(), again, err)
		}
	})
}

func FuzzParseHistory(f *testing.F) {
	for _, data := range seedFiles(f, "*.history") {
		f.Add(uint32(2), data)
		f.Add(uint32(9), data)
	}
	f.Add(uint32(5), []byte("# comment\n\n 1 0/5 x\r\n3\t000000010000000000000004\ty\n"))
	f.Add(uint32(0), []byte("1\t0/5"))
	f.Fuzz(func(t *testing.T, tl uint32, data []byte) {
		h, err := ParseHistory(Timeline(tl), data)
		if err != nil {
			checkMessage(t, err)
			return
		}
		var b strings.Builder
		last := Timeline(0)
		for _, a := range h.Ancestors {
			if a.Timeline <= last || a.Timeline >= h.Timeline {
				t.Fatalf("timelines out of order: %+v", h)
			}
			last = a.Timeline
			point := a.Switch.String()
			if !a.Exact() {
				point = a.SwitchSegment.String()
				if a.Switch != 0 || a.SwitchSegment.Timeline > a.Timeline {
					t.Fatalf("%+v", a)
				}
			}
			fmt.Fprintf(&b, "%d\t%s\t%s\n", a.Timeline, point, a.Reason)
		}
		if last == 0 || h.Parent().Timeline != last || h.Timeline != Timeline(tl) {
			t.Fatalf("%+v", h)
		}
		if again, err := ParseHistory(h.Timeline, []byte(b.String())); err != nil || !reflect.DeepEqual(h, again) {
			t.Fatalf("%+v was written as %q and read as %+v, %v", h, b.String(), again, err)
		}
	})
}

func FuzzParseBackupLabel(f *testing.F) {
	for _, pattern := range []string{"*.backup", "backup_label"} {
		for _, data := range seedFiles(f, pattern) {
			f.Add(data)
		}
	}
	f.Add([]byte(labelTop + labelEnd))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := ParseBackupLabel(data)
		if err != nil {
			if l != (BackupLabel{}) {
				t.Fatalf("%+v, %v", l, err)
			}
			checkMessage(t, err)
			return
		}
		if l.StartSegment.Timeline == 0 {
			t.Fatalf("no start: %+v", l)
		}
		text := formatLabel(l)
		if again, err := ParseBackupLabel([]byte(text)); err != nil || again != l {
			t.Fatalf("%+v was written as %q and read as %+v, %v", l, text, again, err)
		}
	})
}

// formatLabel writes l as PostgreSQL 18 would.
func formatLabel(l BackupLabel) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s (file %s)\n", keyStart, l.Start, l.StartSegment)
	if l.StopSegment != (Segment{}) {
		fmt.Fprintf(&b, "%s: %s (file %s)\n", keyStop, l.Stop, l.StopSegment)
	}
	fmt.Fprintf(&b, "%s: %s\n%s: %s\n%s: %s\n%s: %s\n%s: %s\n", keyCheckpoint, l.Checkpoint,
		keyMethod, l.Method, keyFrom, l.From, keyStartTime, l.StartTime, keyLabel, l.Label)
	if l.StartTimeline != 0 {
		fmt.Fprintf(&b, "%s: %d\n", keyStartTimeline, l.StartTimeline)
	}
	fmt.Fprintf(&b, "%s: %s\n", keyStopTime, l.StopTime)
	if l.StopTimeline != 0 {
		fmt.Fprintf(&b, "%s: %d\n", keyStopTimeline, l.StopTimeline)
	}
	return b.String()
}

func seedFiles(f *testing.F, pattern string) [][]byte {
	files, err := filepath.Glob(filepath.Join("testdata", "*", pattern))
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds %s: %v", pattern, err)
	}
	var all [][]byte
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, data)
	}
	return all
}
