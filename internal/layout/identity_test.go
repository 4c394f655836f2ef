package layout

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

var testCluster = Cluster{7710881423084713556}

func testIdentity() Identity {
	return Identity{SystemID: testCluster.SystemID, SegmentSize: 16 << 20, Codec: "zstd", Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
}

func TestIdentityRoundTrip(t *testing.T) {
	for _, codec := range []string{"zstd", "gzip", "none"} {
		for size := int64(1 << 20); size <= 1<<30; size *= 2 {
			for _, id := range []uint64{1, testCluster.SystemID, 1<<64 - 1} {
				want := testIdentity()
				want.Codec, want.SegmentSize, want.SystemID = codec, size, id
				if size > 4<<20 {
					want.Recipients = "age1x\nssh-ed25519 AAAA"
				}
				got, err := ParseIdentity(want.Marshal(), Cluster{id})
				if err != nil || got != want {
					t.Errorf("%+v, %v, want %+v", got, err, want)
				}
			}
		}
	}
	if b := testIdentity().Marshal(); len(b) > 1024 || b[len(b)-1] != '\n' {
		t.Errorf("not a short text file: %q", b)
	}
}

// A number in JSON loses digits above 2^53, so the identifier is a string.
func TestIdentityKeepsAllDigits(t *testing.T) {
	var v map[string]any
	if err := json.Unmarshal(testIdentity().Marshal(), &v); err != nil || v["system_identifier"] != "7710881423084713556" {
		t.Errorf("%v, %v", v, err)
	}
}

func TestBadIdentities(t *testing.T) {
	good := string(testIdentity().Marshal())
	with := func(from, to string) string {
		if !strings.Contains(good, from) {
			t.Fatalf("%q is not in %s", from, good)
		}
		return strings.Replace(good, from, to, 1)
	}
	for _, c := range []struct{ what, text, says string }{
		{"empty", "", "not whole"},
		{"zeros", strings.Repeat("\x00", len(good)), "not whole"},
		{"not JSON", "cluster 7710881423084713556\n", "not whole"},
		{"an empty object", "{}", "format_version 0"},
		{"another cluster's", with("7710881423084713556", "7710881423084713557"), "cluster 7710881423084713557"},
		{"no cluster", with("7710881423084713556", ""), "system_identifier"},
		{"a negative cluster", with("7710881423084713556", "-1"), "system_identifier"},
		{"too large a cluster", with("7710881423084713556", "18446744073709551616"), "system_identifier"},
		{"a newer format", with(`"format_version": 1`, `"format_version": 3`), "newer"},
		{"format 2 without recipients", with(`"format_version": 1`, `"format_version": 2`), "0 recipients"},
		{"recipients in format 1", with("\n}", `, "recipients": ["age1x"]}`), "format_version 1 with 1 recipients"},
		{"an empty recipient", with("\n}", `, "format_version": 2, "recipients": [""]}`), `recipient ""`},
		{"two recipients in one", with("\n}", `, "format_version": 2, "recipients": ["age1x\nage1y"]}`), "recipient"},
		{"format 0", with(`"format_version": 1`, `"format_version": 0`), "format_version 0"},
		{"format -1", with(`"format_version": 1`, `"format_version": -1`), "format_version -1"},
		{"an unknown codec", with("zstd", "xz"), `codec "xz"`},
		{"no codec", with("zstd", ""), "codec"},
		{"no segment size", with("16777216", "0"), "segment_size 0"},
		{"half a segment size", with("16777216", "524288"), "segment_size 524288"},
		{"an odd segment size", with("16777216", "16777217"), "segment_size 16777217"},
		{"a huge segment size", with("16777216", "2147483648"), "segment_size 2147483648"},
		{"a negative segment size", with("16777216", "-16777216"), "segment_size -16777216"},
	} {
		got, err := ParseIdentity([]byte(c.text), testCluster)
		if !errors.Is(err, ErrIdentity) || !strings.Contains(err.Error(), c.says) || got != (Identity{}) {
			t.Errorf("%s: %+v, %v, want an error that says %q", c.what, got, err, c.says)
		}
	}
	for n := range len(good) - 2 { // without its line end it is still whole
		if _, err := ParseIdentity([]byte(good[:n]), testCluster); !errors.Is(err, ErrIdentity) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
}

// An identity that is accepted is the cluster's, and survives being written.
func FuzzParseIdentity(f *testing.F) {
	f.Add(testIdentity().Marshal())
	f.Add([]byte(`{"format_version":1,"system_identifier":"1"}`))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		id, err := ParseIdentity(data, testCluster)
		if err != nil {
			if !errors.Is(err, ErrIdentity) {
				t.Error(err)
			}
			return
		}
		if id.SystemID != testCluster.SystemID {
			t.Errorf("%+v", id)
		}
		again, err := ParseIdentity(id.Marshal(), testCluster)
		again.Created, id.Created = time.Time{}, time.Time{}
		if err != nil || again != id {
			t.Errorf("%+v became %+v, %v", id, again, err)
		}
	})
}
