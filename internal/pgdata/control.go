package pgdata

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"walship/walname"
)

// ErrCRC says that pg_control's own checksum does not match its content.
var ErrCRC = errors.New("the CRC does not match the content")

// controlLen is how much of pg_control can be in use, bytes: PostgreSQL keeps
// it within one sector and fills the rest of the 8 KiB file with zeros.
const controlLen = 512

// Values of ControlVersion at which the layout changes.
const (
	control90 = 903
	control93 = 937
	control94 = 942 // 9.5 too, by oversight: it has other fields and another CRC
	control96 = 960
	control11 = 1100
	control12 = 1201
	control18 = 1800
)

// State is what the server last noted of itself, PostgreSQL's DBState.
type State uint32

// String returns the words of pg_controldata.
func (s State) String() string {
	words := [...]string{"starting up", "shut down", "shut down in recovery", "shutting down",
		"in crash recovery", "in archive recovery", "in production"}
	if int64(s) < int64(len(words)) {
		return words[s]
	}
	return fmt.Sprintf("unrecognized status code %d", uint32(s))
}

// Control is what pg_control tells of a cluster.
type Control struct {
	SystemID       uint64 // drawn by initdb, shared by all copies of the cluster
	ControlVersion uint32 // of the file's layout: 903 is 9.0, 1800 is 18
	CatalogVersion uint32
	State          State
	SegmentSize    int64 // bytes, of a size that walname.NewGeometry accepts

	// Timeline is the one of the latest checkpoint; a server that has just been
	// promoted may already write a later one.
	Timeline walname.Timeline

	// MinRecoveryTimeline is the one up to which a recovery has come. It is 0
	// in a server that does not recover, before 9.3, after 18 and in files from
	// 32-bit x86.
	MinRecoveryTimeline walname.Timeline

	// DataChecksums is the version of the checksums on data pages, 0 if there
	// are none, before 9.3 and after 18.
	DataChecksums uint32
}

// ParseControl reads the content of a pg_control file from PostgreSQL 9.0 to 18
// on a little-endian machine, or at least its first 512 bytes. Of a later
// version it reads what has never moved. The error wraps ErrCRC if the checksum
// is wrong, as it may be for a moment while the server writes the file.
//
// The layout is ControlFileData in PostgreSQL's pg_control.h. Its fields move
// with the version and with the machine's alignment, so the later ones are found
// by two marks: the constant 1234567.0, and the checksum, which is the last.
func ParseControl(data []byte) (Control, error) {
	c, err := parseControl(data[:min(len(data), controlLen)])
	if err != nil {
		return Control{}, fmt.Errorf("pg_control: %w", err)
	}
	return c, nil
}

func parseControl(data []byte) (Control, error) {
	if len(data) < controlLen {
		return Control{}, fmt.Errorf("%d bytes are too few, it takes %d", len(data), controlLen)
	}
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(data[at:]) }
	c := Control{
		SystemID:       binary.LittleEndian.Uint64(data),
		ControlVersion: u32(8),
		CatalogVersion: u32(12),
		State:          State(u32(16)),
	}
	end, castagnoli := findCRC(data, c.ControlVersion)
	switch {
	case end == 0 && c.ControlVersion != 0 && c.ControlVersion&0xFFFF == 0:
		return Control{}, fmt.Errorf("version %d looks like one from a big-endian machine", c.ControlVersion)
	case end == 0:
		return Control{}, ErrCRC
	case c.ControlVersion < control90:
		return Control{}, fmt.Errorf("version %d is older than PostgreSQL 9.0", c.ControlVersion)
	}

	mark := findFloatFormat(data[:end])
	if mark < 0 || mark+24 > end {
		return Control{}, fmt.Errorf("version %d has no known layout", c.ControlVersion)
	}
	// The server's maxAlign stands before the mark, padded to it in some versions.
	packed := u32(mark-4) == 4

	c.SegmentSize = int64(u32(mark + 20))
	if _, err := walname.NewGeometry(c.SegmentSize, false); err != nil {
		return Control{}, err
	}
	timeline := 56 // checkPointCopy.ThisTimeLineID
	if c.ControlVersion >= control11 {
		timeline = 48 // prevCheckPoint is gone
	}
	if packed {
		timeline -= 4
	}
	c.Timeline = walname.Timeline(u32(timeline))

	if c.ControlVersion >= control93 && c.ControlVersion <= control18 {
		checksums := mark + 44
		if c.ControlVersion == control93 {
			checksums = mark + 40
		}
		if checksums+4 <= end {
			c.DataChecksums = u32(checksums)
		}
		if !packed {
			c.MinRecoveryTimeline = walname.Timeline(u32(minRecoveryTimeline(c.ControlVersion, castagnoli)))
		}
	}
	return c, nil
}

// minRecoveryTimeline returns the offset of minRecoveryPointTLI in 9.3 to 18,
// aligned to 8 bytes.
func minRecoveryTimeline(version uint32, castagnoli bool) int {
	switch {
	case version >= control12, version >= control96 && version < control11:
		return 144
	case version == control94 && castagnoli: // 9.5
		return 144
	}
	return 136
}

// findCRC returns the offset of the checksum over all the bytes before it, 0 if
// there is none, and whether it is the CRC-32C of 9.5 and later.
func findCRC(data []byte, version uint32) (offset int, castagnoli bool) {
	table := crc32.MakeTable(crc32.Castagnoli)
	old, c := ^uint32(0), uint32(0)
	for at := 0; at+4 <= len(data); at += 4 {
		// The checkpoint alone reaches beyond byte 100.
		if word := binary.LittleEndian.Uint32(data[at:]); at > 100 {
			if version >= control94 && word == c {
				return at, true
			}
			if version <= control94 && word == ^old {
				return at, false
			}
		}
		old = legacyCRC(old, data[at:at+4])
		c = crc32.Update(c, table, data[at:at+4])
	}
	return 0, false
}

// legacyCRC continues the checksum of 9.4 and earlier, which is not CRC-32: it
// feeds that one's reflected table from the other end.
func legacyCRC(crc uint32, data []byte) uint32 {
	for _, b := range data {
		crc = crc32.IEEETable[byte(crc>>24)^b] ^ crc<<8
	}
	return crc
}

// findFloatFormat returns the offset of the constant 1234567.0, -1 if it is not
// there; it lies behind the checkpoint.
func findFloatFormat(data []byte) int {
	mark := []byte{0, 0, 0, 0, 0x87, 0xD6, 0x32, 0x41}
	for at := 100; at+len(mark) <= len(data); at += 4 {
		if bytes.Equal(data[at:at+len(mark)], mark) {
			return at
		}
	}
	return -1
}
