package pgdata

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walship/walname"
)

// realControls are the files in testdata/pg_control: the first 512 bytes of what
// real servers wrote, none of them in recovery and only 18 with checksums, its
// default. The offsets are those of ControlFileData in each version's source,
// counted by hand.
var realControls = []struct {
	file     string
	version  Version
	control  uint32
	catalog  uint32
	systemID uint64
	size     int64
	// offsets of ThisTimeLineID, minRecoveryPointTLI, data_checksum_version, crc
	timeline, minimum, checksums, crc int
}{
	{"9.0", 90000, 903, 201008051, 7710881111882771911, 16 << 20, 56, 0, 0, 184},
	{"9.1", 90100, 903, 201105231, 7710881549969702398, 16 << 20, 56, 0, 0, 184},
	{"9.2", 90200, 922, 201204301, 7710880910019395581, 16 << 20, 56, 0, 0, 200},
	{"9.3", 90300, 937, 201306121, 7710881592919126005, 16 << 20, 56, 136, 224, 228},
	{"9.4", 90400, 942, 201409291, 7710881225472998997, 16 << 20, 56, 136, 236, 240},
	{"9.5alpha1", 90500, 942, 201506282, 7710881636760899590, 16 << 20, 56, 144, 252, 256},
	{"9.6", 90600, 960, 201608131, 7710881272941043613, 16 << 20, 56, 144, 252, 256},
	{"10", 100000, 1002, 201707211, 7710881301265141934, 16 << 20, 56, 144, 252, 288},
	{"11", 110000, 1100, 201809051, 7710881313497612732, 16 << 20, 48, 136, 244, 280},
	{"12", 120000, 1201, 201909212, 7710881326940598986, 16 << 20, 48, 144, 252, 288},
	{"13", 130000, 1300, 202007201, 7710881343303631835, 16 << 20, 48, 144, 252, 288},
	{"14", 140000, 1300, 202107181, 7710881407410836792, 16 << 20, 48, 144, 252, 288},
	{"15", 150000, 1300, 202209061, 7710881423084713556, 16 << 20, 48, 144, 252, 288},
	{"16", 160000, 1300, 202307071, 7710881434769639275, 16 << 20, 48, 144, 252, 288},
	{"16_seg64", 160000, 1300, 202307071, 7710881678701294161, 64 << 20, 48, 144, 252, 288},
	{"17", 170000, 1700, 202406281, 7710881448842152061, 16 << 20, 48, 144, 252, 288},
	{"17_seg1", 170000, 1700, 202406281, 7710881667057135933, 1 << 20, 48, 144, 252, 288},
	{"18", 180000, 1800, 202506291, 7710881464476473740, 16 << 20, 48, 144, 252, 292},
}

func controlData(t testing.TB, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "pg_control", file))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// seal writes the checksum that belongs to the bytes before it.
func seal(data []byte, at int, castagnoli bool) {
	crc := ^legacyCRC(^uint32(0), data[:at])
	if castagnoli {
		crc = crc32.Checksum(data[:at], crc32.MakeTable(crc32.Castagnoli))
	}
	binary.LittleEndian.PutUint32(data[at:], crc)
}

func TestParseRealControls(t *testing.T) {
	for _, c := range realControls {
		data := controlData(t, c.file)
		want := Control{
			SystemID: c.systemID, ControlVersion: c.control, CatalogVersion: c.catalog,
			State: 1, SegmentSize: c.size, Timeline: 1,
		}
		if c.version == 180000 {
			want.DataChecksums = 1
		}
		got, err := ParseControl(data)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", c.file, got, err, want)
		}

		// Other values in the same places, as of a standby with checksums.
		castagnoli := c.version >= 90500
		binary.LittleEndian.PutUint32(data[c.timeline:], 7)
		want.Timeline = 7
		if c.minimum != 0 {
			binary.LittleEndian.PutUint32(data[c.minimum:], 9)
			binary.LittleEndian.PutUint32(data[c.checksums:], 3)
			want.MinRecoveryTimeline, want.DataChecksums = 9, 3
		}
		seal(data, c.crc, castagnoli)
		got, err = ParseControl(append(data, make([]byte, 8192-512)...))
		if err != nil || got != want {
			t.Errorf("%s, changed: %+v, %v, want %+v", c.file, got, err, want)
		}
		// The other kind of checksum, where the version rules it out.
		if c.control != 942 {
			seal(data, c.crc, !castagnoli)
			if _, err := ParseControl(data); !errors.Is(err, ErrCRC) {
				t.Errorf("%s: the wrong kind of CRC: %v", c.file, err)
			}
		}
	}
}

// Every flipped bit before the end of the checksum is found.
func TestParseControlDamaged(t *testing.T) {
	for _, c := range realControls {
		data := controlData(t, c.file)
		for at := range c.crc + 4 {
			bit := byte(1) << (at % 8)
			data[at] ^= bit
			if got, err := ParseControl(data); err == nil {
				t.Errorf("%s: a flipped bit in byte %d: %+v", c.file, at, got)
			}
			data[at] ^= bit
		}
		data[40] ^= 1
		if _, err := ParseControl(data); !errors.Is(err, ErrCRC) || !strings.Contains(err.Error(), "CRC") {
			t.Errorf("%s: the error does not speak of the CRC: %v", c.file, err)
		}
	}
}

func TestParseControlRefuses(t *testing.T) {
	for _, c := range []struct {
		what   string
		change func(data []byte) []byte
		want   string
	}{
		{"empty", func([]byte) []byte { return nil }, "too few"},
		{"cut short", func(d []byte) []byte { return d[:511] }, "too few"},
		{"zeros", func(d []byte) []byte { return make([]byte, len(d)) }, "CRC"},
		{"8.4", func(d []byte) []byte {
			binary.LittleEndian.PutUint32(d[8:], 843)
			seal(d, 288, false)
			return d
		}, "older than PostgreSQL 9.0"},
		{"big-endian", func(d []byte) []byte { binary.BigEndian.PutUint32(d[8:], 1300); return d }, "big-endian"},
		{"segment size", func(d []byte) []byte { d[228] = 1; seal(d, 288, true); return d }, "segment size"},
		{"no float format", func(d []byte) []byte { d[215] = 0; seal(d, 288, true); return d }, "layout"},
	} {
		got, err := ParseControl(c.change(controlData(t, "15")))
		if err == nil || !strings.Contains(err.Error(), c.want) || got != (Control{}) {
			t.Errorf("%s: %+v, %v, want an error with %q", c.what, got, err, c.want)
		}
	}
}

// A later version with new fields is read as far as it can be.
func TestParseControlNewer(t *testing.T) {
	old := controlData(t, "18")
	data := bytes.Clone(old[:64])
	data = append(data, 1, 2, 3, 4, 5, 6, 7, 8) // a new field in the checkpoint
	data = append(data, old[64:]...)[:512]
	binary.LittleEndian.PutUint32(data[8:], 1905)
	seal(data, 300, true)
	want := Control{SystemID: 7710881464476473740, ControlVersion: 1905, CatalogVersion: 202506291,
		State: 1, SegmentSize: 16 << 20, Timeline: 1}
	if got, err := ParseControl(data); err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
}

// On 32-bit x86 eight-byte fields are aligned to four bytes.
func TestParseControlPacked(t *testing.T) {
	old := controlData(t, "11")
	data := bytes.Clone(old[:20])
	data = append(data, old[24:196]...) // no padding after the state …
	data = append(data, 4, 0, 0, 0)     // maxAlign
	data = append(data, old[200:]...)   // … nor before the float format
	data = append(data, make([]byte, 8)...)
	data[44], data[48] = 7, 5 // this and the previous timeline
	data[132] = 9             // minRecoveryPointTLI, which is not looked for
	data[136] = 9             // where it is otherwise
	seal(data, 276, true)
	got, err := ParseControl(data)
	want := Control{SystemID: 7710881313497612732, ControlVersion: 1100, CatalogVersion: 201809051,
		State: 1, SegmentSize: 16 << 20, Timeline: 7}
	if err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
}

func TestStateString(t *testing.T) {
	for s, want := range map[State]string{0: "starting up", 1: "shut down", 5: "in archive recovery",
		6: "in production", 7: "unrecognized status code 7", 1<<32 - 1: "unrecognized status code 4294967295"} {
		if got := s.String(); got != want {
			t.Errorf("State(%d) = %q, want %q", uint32(s), got, want)
		}
	}
}

func FuzzParseControl(f *testing.F) {
	for _, c := range realControls {
		f.Add(controlData(f, c.file), uint16(c.crc), c.version >= 90500)
	}
	// The fuzzer cannot guess a checksum, so it is made to fit.
	f.Fuzz(func(t *testing.T, data []byte, crc uint16, castagnoli bool) {
		if at := int(crc) &^ 3; at+4 <= len(data) && at > 100 {
			data = bytes.Clone(data)
			seal(data, at, castagnoli)
		}
		c, err := ParseControl(data)
		if err != nil {
			if c != (Control{}) {
				t.Fatalf("%+v with %v", c, err)
			}
			return
		}
		if _, err := walname.NewGeometry(c.SegmentSize, false); err != nil || c.ControlVersion < 903 {
			t.Fatalf("accepted %+v", c)
		}
	})
}
