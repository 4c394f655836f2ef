package walname

import (
	"errors"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for s, want := range map[string]Name{
		"000000010000000000000000":                 {Kind: KindSegment, Segment: Segment{1, 0, 0}},
		"000000010000000A000000FE":                 {Kind: KindSegment, Segment: Segment{1, 10, 0xFE}},
		"FFFFFFFFFFFFFFFF00000FFF":                 {Kind: KindSegment, Segment: Segment{0xFFFFFFFF, 0xFFFFFFFF, 0xFFF}},
		"123456789ABCDEF000000ABC":                 {Kind: KindSegment, Segment: Segment{0x12345678, 0x9ABCDEF0, 0xABC}},
		"000000020000000000000005.partial":         {Kind: KindPartial, Segment: Segment{2, 0, 5}},
		"00000002.history":                         {Kind: KindHistory, Segment: Segment{Timeline: 2}},
		"FFFFFFFF.history":                         {Kind: KindHistory, Segment: Segment{Timeline: 0xFFFFFFFF}},
		"000000010000000000000003.00000028.backup": {Kind: KindBackup, Segment: Segment{1, 0, 3}, Offset: 0x28},
		"000000010000000000000003.00ABCDEF.backup": {Kind: KindBackup, Segment: Segment{1, 0, 3}, Offset: 0xABCDEF},
	} {
		n, err := Parse(s)
		if err != nil || n != want {
			t.Errorf("Parse(%q) = %+v, %v, want %+v", s, n, err, want)
		}
		if n.String() != s {
			t.Errorf("%+v prints as %q, want %q", n, n.String(), s)
		}
		if n.Timeline() != want.Segment.Timeline {
			t.Errorf("timeline of %q is %v", s, n.Timeline())
		}
	}
}

func TestParseRefuses(t *testing.T) {
	const seg = "000000010000000A000000FE"
	for _, s := range []string{
		"", ".", "..", "/", ".partial", ".history", ".backup", "RECOVERYXLOG", "RECOVERYHISTORY",
		seg[1:], seg + "0", seg + seg, // 23, 25, 48 digits
		seg + "\n", "\n" + seg, " " + seg, seg + " ", seg + "\x00", "\x00" + seg, seg + "\r\n",
		strings.Replace(seg, "0", "\x00", 1), strings.Replace(seg, "0", " ", 1), strings.Replace(seg, "0", "+", 1),
		strings.Replace(seg, "0", "-", 1), strings.Replace(seg, "00", "0x", 1), strings.Replace(seg, "0", "_", 1),
		strings.Replace(seg, "A", "a", 1), strings.Replace(seg, "A", "G", 1), strings.Replace(seg, "A", "@", 1),
		strings.Replace(seg, "0", "/", 1), strings.Replace(seg, "0", ":", 1), strings.Replace(seg, "0", "０", 1),
		"/" + seg, "./" + seg, "../" + seg, "pg_wal/" + seg, seg + "/", "a/../" + seg, `..\` + seg,
		"00000000" + seg[8:],                       // timeline 0
		"000000010000000000001000",                 // no segment size has so many
		"0000000100000000FFFFFFFF",                 //
		"000000010000000000001000.partial",         //
		"000000010000000000001000.00000028.backup", //
		seg + ".", seg + ".partia", seg + ".partial.", seg + ".Partial", seg + ".partial.partial", seg + "partial",
		seg + ".partial\n", seg[1:] + ".partial", seg + "0.partial", seg + ".partial.history", seg + ".gz", seg + ".zst", seg + ".lz4",
		seg + ".partial.gz", seg + ".other-node", seg + ".history", seg + ".backup", seg + "..backup", seg + ".tmp",
		"00000000.history", "0000002.history", "000000002.history", "0000000a.history", "00000002.History", "00000002history",
		"00000002.history\n", "00000002.history.history", "00000002.history.gz", "00000002.partial", " 0000002.history",
		"00000000" + seg[8:] + ".partial", "00000000" + seg[8:] + ".00000028.backup",
		seg + ".0000028.backup", seg + ".000000028.backup", seg + ".0000002a.backup", seg + ".00000028", seg + ".00000028.",
		seg + ".00000028.backup\n", seg + ".00000028.backup.backup", seg + ".00000028.partial", seg + "000000028.backup", seg + ".00000028backup",
		strings.Repeat("0", 1000), strings.Repeat("F", 1000), strings.Repeat(".partial", 125), strings.Repeat("\x00", 1000), strings.Repeat("\xff", 1000),
		seg + strings.Repeat("/", 1000),
	} {
		n, err := Parse(s)
		if err == nil {
			t.Errorf("Parse(%q) = %+v", s, n)
			continue
		}
		if !errors.Is(err, ErrName) {
			t.Errorf("Parse(%q): %v is no ErrName", s, err)
		}
		if n != (Name{}) {
			t.Errorf("Parse(%q) = %+v with an error", s, n)
		}
		checkMessage(t, err)
	}
}

// checkMessage fails if an error is too long for a log or holds what a terminal
// or a log must not be shown. An escaped byte takes four of its own.
func checkMessage(t *testing.T, err error) {
	t.Helper()
	if n := len(err.Error()); n > 4*maxQuoted+150 {
		t.Errorf("message of %d bytes: %v", n, err)
	}
	if strings.ContainsAny(err.Error(), "\x00\n\r\x1b") {
		t.Errorf("raw control characters in the message %q", err)
	}
}

func TestParseErrorQuotesLittle(t *testing.T) {
	_, err := Parse(strings.Repeat("A", 1000))
	if n := strings.Count(err.Error(), "A"); n < 70 || n > 90 {
		t.Errorf("%d of 1000 characters are in the message %q", n, err)
	}
	_, err = Parse("evil\x1b[31m\n")
	if want := `"evil\x1b[31m\n": not a WAL file name`; err.Error() != want {
		t.Errorf("message %q, want %q", err, want)
	}
}

func TestKindString(t *testing.T) {
	for k, want := range map[Kind]string{
		0: "Kind(0)", KindSegment: "segment", KindPartial: "partial", KindHistory: "history", KindBackup: "backup", 9: "Kind(9)",
	} {
		if k.String() != want {
			t.Errorf("kind %d prints as %q, want %q", uint8(k), k, want)
		}
	}
}

func TestZeroNameIsNoName(t *testing.T) {
	if n, err := Parse(Name{}.String()); err == nil {
		t.Errorf("the zero Name parses as %+v", n)
	}
}
