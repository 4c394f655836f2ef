package basebackup

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func testManifest() Manifest {
	began := time.Date(2026, 11, 22, 11, 45, 0, 0, time.UTC)
	return Manifest{
		Version: FormatVersion, Backup: "000000010000000A000000FE-20261122T114500Z", SystemID: 7710881423084713556, PostgreSQL: "15",
		Server: "15.18 (Debian 15.18-0+deb12u1)", SegmentSize: 16 << 20, Method: "protocol", Checksums: true, Label: "night <1> & \"2\"",
		Begin: began, End: began.Add(time.Minute), Timeline: 1, StartLSN: 0xA_FE000028, EndLSN: 0xA_FF000100,
		Tablespaces: []Tablespace{{OID: 16384, Location: "/mnt/fast disk", Size: 5}},
		Files:       1000, Size: 1 << 40, StoredSize: 1 << 38,
		Lists:   []Ref{{Name: "files-000001.jsonl.zst", Size: 100, StoredSize: 50, SHA256: Sum{1, 2, 3}}},
		Walship: "1.0",
	}
}

func TestManifestRoundTrip(t *testing.T) {
	id := testID(t)
	m := testManifest()
	data, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseManifest(data, id)
	if err != nil || !reflect.DeepEqual(got, m) || got.ID() != id {
		t.Errorf("%+v, %v", got, err)
	}
	var plain map[string]any // any JSON reader can read it, and loses no digits
	if err := json.Unmarshal(data, &plain); err != nil || plain["system_identifier"] != "7710881423084713556" || plain["start_lsn"] != "A/FE000028" {
		t.Errorf("%v, %v", plain, err)
	}
}

// One flipped bit, one byte less, a doubled line: never a manifest.
func TestManifestDamage(t *testing.T) {
	id := testID(t)
	data, err := testManifest().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for at := range data {
		for bit := range 8 {
			bad := bytes.Clone(data)
			bad[at] ^= 1 << bit
			if _, err := ParseManifest(bad, id); !errors.Is(err, ErrDamaged) {
				t.Fatalf("byte %d, bit %d: %v", at, bit, err)
			}
		}
		if _, err := ParseManifest(data[:at], id); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut to %d bytes: %v", at, err)
		}
	}
	if _, err := ParseManifest(append(bytes.Clone(data), data...), id); err == nil {
		t.Error("two in a row are taken for one")
	}
}

func TestManifestOfAnother(t *testing.T) {
	m := testManifest()
	data, _ := m.Marshal()
	other := testID(t)
	other.Time = other.Time.Add(time.Second)
	if _, err := ParseManifest(data, other); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), m.Backup) {
		t.Error(err)
	}
	for what, change := range map[string]func(*Manifest){
		"no timeline":         func(m *Manifest) { m.Timeline = 0 },
		"an end before start": func(m *Manifest) { m.EndLSN = 1 },
		"a segment size":      func(m *Manifest) { m.SegmentSize = 5 },
		"a negative size":     func(m *Manifest) { m.Size = -1 },
	} {
		m := testManifest()
		change(&m)
		data, _ := m.Marshal()
		if _, err := ParseManifest(data, m.ID()); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func FuzzParseManifest(f *testing.F) {
	data, _ := testManifest().Marshal()
	f.Add(data)
	f.Add([]byte("{\n\"manifest_sha256\": \"" + strings.Repeat("0", 64) + "\"}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		id, _ := ParseID("000000010000000A000000FE-20261122T114500Z")
		m, err := ParseManifest(data, id)
		if err == nil && m.ID() != id {
			t.Errorf("%+v", m)
		}
	})
}
