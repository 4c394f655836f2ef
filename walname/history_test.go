package walname

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func testdata(t testing.TB, version, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", version, file))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// versions are the servers whose own files lie in testdata; the suffix is their
// segment size in MB where it is not 16.
var versions = []struct {
	name   string
	size   int64
	skipFF bool
	left   string // where timeline 1 was left: a position or a segment
}{
	{"9.0", DefaultSegmentSize, true, "000000010000000000000004"},
	{"9.1", DefaultSegmentSize, true, "000000010000000000000005"},
	{"9.2", DefaultSegmentSize, true, "000000010000000000000005"},
	{"9.3", DefaultSegmentSize, false, "0/5000E58"},
	{"9.4", DefaultSegmentSize, false, "0/5000E58"},
	{"9.5alpha1", DefaultSegmentSize, false, "0/5000CC0"},
	{"9.6", DefaultSegmentSize, false, "0/5000CC0"},
	{"10", DefaultSegmentSize, false, "0/5000C58"},
	{"11", DefaultSegmentSize, false, "0/5000C58"},
	{"12", DefaultSegmentSize, false, "0/5000C58"},
	{"13", DefaultSegmentSize, false, "0/5000C58"},
	{"14", DefaultSegmentSize, false, "0/5000C58"},
	{"15", DefaultSegmentSize, false, "0/5000C58"},
	{"16", DefaultSegmentSize, false, "0/5000C58"},
	{"16_seg64", 64 << 20, false, "0/14000C58"},
	{"17", DefaultSegmentSize, false, "0/5000C58"},
	{"17_seg1", 1 << 20, false, "0/A00C58"},
	{"18", DefaultSegmentSize, false, "0/5000C58"},
}

func TestParseHistoryOfEachVersion(t *testing.T) {
	for _, v := range versions {
		t.Run(v.name, func(t *testing.T) {
			h, err := ParseHistory(2, testdata(t, v.name, "00000002.history"))
			if err != nil {
				t.Fatal(err)
			}
			want := Ancestor{Timeline: 1, Reason: "no recovery target specified"}
			if v.skipFF {
				n, err := Parse(v.left)
				if err != nil {
					t.Fatal(err)
				}
				want.SwitchSegment = n.Segment
			} else if want.Switch, err = ParseLSN(v.left); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(h, History{2, []Ancestor{want}}) {
				t.Errorf("%+v, want ancestor %+v", h, want)
			}
			if h.Parent() != want {
				t.Errorf("parent %+v, want %+v", h.Parent(), want)
			}
			if h.Parent().Exact() == v.skipFF {
				t.Errorf("exact: %v", h.Parent().Exact())
			}
		})
	}
}

// Written by PostgreSQL 15: a promotion after a promotion, and a recovery that
// aimed at timeline 2 but ended before timeline 2 began.
func TestParseHistoryOfSeveralAncestors(t *testing.T) {
	first := Ancestor{Timeline: 1, Switch: 0x50000A0, Reason: "no recovery target specified"}
	for file, want := range map[string]History{
		"00000003.history": {3, []Ancestor{first, {Timeline: 2, Switch: 0x60000A0, Reason: "no recovery target specified"}}},
		"00000004.history": {4, []Ancestor{first, {Timeline: 2, Switch: 0x3016078, Reason: "after LSN 0/3016038"}}},
	} {
		h, err := ParseHistory(want.Timeline, testdata(t, "15_cascade", file))
		if err != nil || !reflect.DeepEqual(h, want) {
			t.Errorf("%s: %+v, %v, want %+v", file, h, err, want)
		}
		if h.Parent() != want.Ancestors[1] {
			t.Errorf("%s: parent %+v", file, h.Parent())
		}
		if a, ok := h.Ancestor(1); !ok || a != first {
			t.Errorf("%s: timeline 1: %+v, %v", file, a, ok)
		}
		for _, tl := range []Timeline{0, want.Timeline, 9} {
			if a, ok := h.Ancestor(tl); ok || a != (Ancestor{}) {
				t.Errorf("%s: timeline %d: %+v, %v", file, tl, a, ok)
			}
		}
	}
	if p := (History{}).Parent(); p != (Ancestor{}) {
		t.Errorf("parent of no history: %+v", p)
	}
}

func TestParseHistoryAccepts(t *testing.T) {
	long := strings.Repeat("x", maxHistoryLine-len("1\t0/5\t"))
	for _, c := range []struct {
		text string
		want []Ancestor
	}{
		{"1\t0/5000C58\t\n", []Ancestor{{Timeline: 1, Switch: 0x5000C58}}},
		{"1\t0/5000C58\n", []Ancestor{{Timeline: 1, Switch: 0x5000C58}}},
		{"1\t0/5000C58\tno newline", []Ancestor{{Timeline: 1, Switch: 0x5000C58, Reason: "no newline"}}},
		{" \v1 \f 0/5000C58  by  hand \r\n", []Ancestor{{Timeline: 1, Switch: 0x5000C58, Reason: "by  hand"}}},
		{"1\t0/05000C58\tleading zeros\n", []Ancestor{{Timeline: 1, Switch: 0x5000C58, Reason: "leading zeros"}}},
		{"# 1\t0/1\n \t# 3\n\n \n2\t1/0\t# no comment\n", []Ancestor{{Timeline: 2, Switch: 1 << 32, Reason: "# no comment"}}},
		{"1\t0/5\tat restore point \"caf\xe9\"\n", []Ancestor{{Timeline: 1, Switch: 5, Reason: "at restore point \"caf\xe9\""}}},
		{"1\t0/5\t\u00a0no ASCII space\u00a0\n", []Ancestor{{Timeline: 1, Switch: 5, Reason: "\u00a0no ASCII space\u00a0"}}},
		{"1\t0/5\t" + long + "\n", []Ancestor{{Timeline: 1, Switch: 5, Reason: long}}},
		// 9.0 to 9.2: the segment may be of a lower timeline than the line's own.
		{"1\t000000010000000000000004\tbefore transaction 7\n\n3\t000000010000000200000005\tafter\n", []Ancestor{
			{Timeline: 1, SwitchSegment: Segment{1, 0, 4}, Reason: "before transaction 7"},
			{Timeline: 3, SwitchSegment: Segment{1, 2, 5}, Reason: "after"},
		}},
		{"4294967294\t0/5\tx\n", []Ancestor{{Timeline: 0xFFFFFFFE, Switch: 5, Reason: "x"}}},
	} {
		h, err := ParseHistory(0xFFFFFFFF, []byte(c.text))
		if err != nil || !reflect.DeepEqual(h.Ancestors, c.want) {
			t.Errorf("%q: %+v, %v, want %+v", c.text, h.Ancestors, err, c.want)
		}
	}
}

func TestParseHistoryRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"empty":                 "",
		"blank":                 "\n \n\t\n",
		"comments alone":        "# 1\t0/5\tx\n",
		"zeros":                 strings.Repeat("\x00", 512),
		"zeros behind a line":   "1\t0/5\tx\n\x00\x00",
		"nul in a reason":       "1\t0/5\tx\x00y\n",
		"nul in a comment":      "#\x00\n1\t0/5\tx\n",
		"no timeline":           "x\t0/5\tx\n",
		"timeline 0":            "0\t0/5\tx\n",
		"octal":                 "01\t0/5\tx\n",
		"hexadecimal":           "0x1\t0/5\tx\n",
		"signed":                "+1\t0/5\tx\n",
		"negative":              "-1\t0/5\tx\n",
		"timeline of 33 bits":   "4294967297\t0/5\tx\n",
		"only a timeline":       "1\n",
		"torn in the timeline":  "1",
		"torn in the position":  "1\t0/5000C",
		"torn in the segment":   "1\t00000001000000",
		"torn after a segment":  "1\t000000010000000000000004",
		"torn in a later line":  "1\t0/5\tx\n2\t0/6",
		"no position":           "1\tnowhere\tx\n",
		"bad position":          "1\t0/5G\tx\n",
		"long position":         "1\t0/000000005\tx\n",
		"reason glued on":       "1\t0/5,x\ty\n",
		"lower-case segment":    "1\t00000001000000000000000a\tx\n",
		"partial":               "1\t000000010000000000000004.partial\tx\n",
		"segment too high":      "1\t000000010000000000001000\tx\n",
		"segment of a later tl": "1\t000000020000000000000004\tx\n",
		"itself":                "5\t0/5\tx\n",
		"later than itself":     "1\t0/5\tx\n6\t0/6\tx\n",
		"twice":                 "1\t0/5\tx\n1\t0/5\tx\n",
		"decreasing":            "2\t0/5\tx\n1\t0/6\tx\n",
		"long line":             "1\t0/5\t" + strings.Repeat("x", maxHistoryLine) + "\n",
		"long comment":          "#" + strings.Repeat("x", maxHistoryLine) + "\n1\t0/5\tx\n",
		"large":                 "1\t0/5\tx\n" + strings.Repeat("#\n", maxHistorySize/2),
		"not utf-8":             "\xff\xfe\t0/5\tx\n",
		"no-break space":        "1\u00a00/5\u00a0x\n",
		"control characters":    "\x1b[31m\t0/5\tx\n",
	} {
		h, err := ParseHistory(5, []byte(text))
		if err == nil {
			t.Errorf("%s: %+v", name, h)
			continue
		}
		if h.Timeline != 0 || h.Ancestors != nil {
			t.Errorf("%s: %+v with an error", name, h)
		}
		if !strings.HasPrefix(err.Error(), "history of timeline 00000005: ") {
			t.Errorf("%s: the message does not name the file: %v", name, err)
		}
		checkMessage(t, err)
	}
	for _, tl := range []Timeline{0, 1} {
		if h, err := ParseHistory(tl, []byte("1\t0/5\tx\n")); err == nil {
			t.Errorf("timeline %d has the history %+v", tl, h)
		}
	}
}

func TestParseHistoryNamesTheLine(t *testing.T) {
	_, err := ParseHistory(5, []byte("1\t0/5\tx\n\n# comment\nthree\t0/6\tx\n"))
	if want := `history of timeline 00000005: line 4: "three" is not a timeline`; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

// As many promotions as fit are read, in order.
func TestParseHistoryLong(t *testing.T) {
	var b strings.Builder
	n := 0
	for b.Len() < maxHistorySize-100 {
		n++
		fmt.Fprintf(&b, "%d\t%X/%X\tno recovery target specified\n\n", n, n, n)
	}
	h, err := ParseHistory(Timeline(n+1), []byte(b.String()))
	if err != nil || len(h.Ancestors) != n || h.Parent().Timeline != Timeline(n) {
		t.Errorf("%d ancestors of %d, %v", len(h.Ancestors), n, err)
	}
	if n < 20000 {
		t.Errorf("room for %d promotions only", n)
	}
}
