package basebackup

import (
	"strings"
	"testing"
	"time"

	"walship/internal/layout"
	"walship/walname"
)

func testID(t *testing.T) ID {
	t.Helper()
	id, err := ParseID("000000010000000A000000FE-20261122T114500Z")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestID(t *testing.T) {
	id := testID(t)
	want := walname.Segment{Timeline: 1, Log: 10, Seg: 254}
	if id.Start != want || !id.Time.Equal(time.Date(2026, 11, 22, 11, 45, 0, 0, time.UTC)) {
		t.Errorf("%+v", id)
	}
	if got := (ID{want, id.Time.In(time.FixedZone("", 5*3600)).Add(999 * time.Millisecond)}).String(); got != id.String() {
		t.Error(got)
	}
	for _, s := range []string{
		"", "-", "000000010000000A000000FE", "000000010000000A000000FE-", "000000010000000a000000fe-20261122T114500Z",
		"000000010000000A000000FE-20261122T114500", "000000010000000A000000FE-20261322T114500Z", "000000010000000A000000FE-20261122T114500Z-2",
		"000000010000000A000000FE.partial-20261122T114500Z", "00000002.history-20261122T114500Z", "000000010000000A000000FE-20261122T114500Z\n",
		"../000000010000000A000000FE-20261122T114500Z", "000000010000000A000000FE-20261122T114500.5Z",
	} {
		if id, err := ParseID(s); err == nil {
			t.Errorf("%q is taken for %v", s, id)
		}
	}
}

func TestNames(t *testing.T) {
	c := layout.Cluster{SystemID: 7710881423084713556}
	for got, want := range map[string]string{
		Folder(c, testID(t)): "7710881423084713556/base/000000010000000A000000FE-20261122T114500Z",
		Root(c):              "7710881423084713556/base",
		PartName(0, 1):       "base-000001.tar",
		PartName(16384, 12):  "16384-000012.tar",
		PartName(0, 1234567): "base-1234567.tar",
		ListName(3):          "files-000003.jsonl",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	for _, f := range c.Folders() {
		if f == Root(c) {
			return
		}
	}
	t.Error("init does not make the folder of backups")
}

func FuzzParseID(f *testing.F) {
	f.Add("000000010000000A000000FE-20261122T114500Z")
	f.Add("FFFFFFFFFFFFFFFFFFFFFFFF-00010101T000000Z")
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := ParseID(s); err == nil && id.String() != s {
			t.Errorf("%q became %q", s, id)
		} else if err != nil && strings.ContainsAny(err.Error(), "\n\x00") {
			t.Errorf("%q", err)
		}
	})
}
