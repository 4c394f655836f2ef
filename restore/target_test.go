package restore

import (
	"strings"
	"testing"
	"time"
)

func berlin(t testing.TB) *time.Location {
	l, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

var timesOK = map[string]string{
	"2026-11-22 14:05":                  "2026-11-22T13:05:00Z",
	"2026-11-22 14:05:30":               "2026-11-22T13:05:30Z",
	"2026-11-22 14:05:30.123456":        "2026-11-22T13:05:30.123456Z",
	"2026-11-22 14:05:30.123456789":     "2026-11-22T13:05:30.123456Z",
	"2026-11-22T14:05:30":               "2026-11-22T13:05:30Z",
	"2026-11-22T14:05:30Z":              "2026-11-22T14:05:30Z",
	"2026-11-22 14:05:30+00":            "2026-11-22T14:05:30Z",
	"2026-11-22 14:05:30.5-03:30":       "2026-11-22T17:35:30.5Z",
	"2026-11-22 14:05:30 +0530":         "2026-11-22T08:35:30Z",
	"2026-11-22 14:05 UTC":              "2026-11-22T14:05:00Z",
	"2026-11-22 14:05 CET":              "2026-11-22T13:05:00Z",
	"2026-07-22 14:05 CEST":             "2026-07-22T12:05:00Z",
	"2026-07-22 14:05":                  "2026-07-22T12:05:00Z",
	"2026-11-22 14:05 America/New_York": "2026-11-22T19:05:00Z",
	"2026-11-22":                        "2026-11-21T23:00:00Z",
	"2026-1-2 3:04":                     "2026-01-02T02:04:00Z",
	"  2026-11-22 14:05  ":              "2026-11-22T13:05:00Z",
	"2026-10-25 02:30":                  "2026-10-25T01:30:00Z", // happens twice
	"2026-10-25 02:30+02":               "2026-10-25T00:30:00Z",
	"today 08:00":                       "2026-11-22T07:00:00Z",
	"Yesterday 08:00:01":                "2026-11-21T07:00:01Z",
	"yesterday":                         "2026-11-20T23:00:00Z",
	"5 minutes ago":                     "2026-11-22T10:55:00Z",
	"1 minute ago":                      "2026-11-22T10:59:00Z",
	"90s ago":                           "2026-11-22T10:58:30Z",
	"2h 30m ago":                        "2026-11-22T08:30:00Z",
	"1 day 1 hour ago":                  "2026-11-21T10:00:00Z",
	"2 Weeks Ago":                       "2026-11-08T11:00:00Z",
	"2028-02-29 00:00Z":                 "2028-02-29T00:00:00Z",
	"2026-11-22 14:05:30.000001+01:00":  "2026-11-22T13:05:30.000001Z",
}

var timesBad = map[string]string{
	"": "given like", "now": "given like", "14:05": "given like", "2026-13-22 14:05": "no such day", "2026-02-30": "no such day",
	"2026-11-22 24:05": "time of day", "2026-11-22 14:60": "time of day", "2026-03-29 02:30": "left that time out", "22.11.2026 14:05": "given like",
	"2026-11-22 14:05 PST": "not known here", "2026-11-22 14:05 ../etc/passwd": "not known here", "minutes ago": "given like", "5 fortnights ago": "no unit",
	"ago": "given like", "999999 weeks ago": "too long ago", "0001-01-01": "backup", "2026-11-22 14:05+99": "offset", "2026-11-22 14:05:30.1234567890": "given like",
	"2026-11-22\n14:05": "given like", "1763813100": "given like", "5 minutes ago 14:00": "",
}

func TestParseTime(t *testing.T) {
	local := berlin(t)
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, local)
	for text, want := range timesOK {
		got, err := ParseTime(text, now, local)
		if err != nil || got.UTC().Format(time.RFC3339Nano) != want {
			t.Errorf("%q is %s, %v, want %s", text, got.UTC().Format(time.RFC3339Nano), err, want)
		}
	}
	for text, says := range timesBad {
		got, err := ParseTime(text, now, local)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q is %s, %v, want an error that says %q", text, got, err, says)
		}
	}
}

// What is accepted is written for PostgreSQL in a form that means the same.
func FuzzParseTime(f *testing.F) {
	for text := range timesOK {
		f.Add(text)
	}
	for text := range timesBad {
		f.Add(text)
	}
	local := berlin(f)
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, local)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseTime(text, now, local)
		if err != nil {
			return
		}
		form := Target{Kind: AtTime, Time: got}.Value()
		again, err := ParseTime(form, now, time.UTC)
		if err != nil || !again.Equal(got) || strings.ContainsAny(form, "'\n\\") {
			t.Errorf("%q is written %q, which is %s, %v, want %s", text, form, again, err, got)
		}
	})
}

func TestTargets(t *testing.T) {
	at := time.Date(2026, 11, 22, 14, 5, 30, 500000000, time.FixedZone("", 3600))
	for want, target := range map[string]Target{
		"the latest archived WAL":           {},
		"as soon as the copy is consistent": {Kind: Immediate},
		"time 2026-11-22 14:05:30.5+01:00":  {Kind: AtTime, Time: at},
		"just before LSN 16/B374D848":       {Kind: AtLSN, LSN: 0x16B374D848, Exclusive: true},
		`restore point "before it's gone"`:  {Kind: AtName, Name: "before it's gone"},
		"transaction 4294967300":            {Kind: AtXID, XID: 1<<32 + 4},
	} {
		if target.String() != want || target.check() != nil {
			t.Errorf("%s, %v, want %s", target, target.check(), want)
		}
	}
	for _, bad := range []Target{{Kind: AtName}, {Kind: AtName, Name: "a\nb"}, {Kind: AtName, Name: strings.Repeat("x", 64)}, {Kind: AtXID, XID: 2},
		{Kind: AtXID, XID: 1 << 32}, {Exclusive: true}, {Kind: Immediate, Exclusive: true}, {Kind: AtName, Name: "x", Exclusive: true}} {
		if bad.check() == nil {
			t.Errorf("%+v is no target", bad)
		}
	}
}
