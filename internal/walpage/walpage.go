// Package walpage reads the header of a segment's first page, which tells which
// server wrote the segment and where it belongs, and compares it with the
// segment's name. It looks at nothing behind the header and never at a file.
package walpage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"walship/walname"
)

// MinLen is how many bytes of a segment [Parse] needs: the size of the longer
// one of the two headers.
const MinLen = 40

// Why a header was refused, for errors.Is.
var (
	// ErrMagic says that the page does not begin with the magic of a released
	// PostgreSQL 9.0 to 18: a newer server, a fork of its own format, encrypted
	// WAL, or no WAL at all. Nothing behind an unknown magic can be relied on.
	ErrMagic = errors.New("unknown page magic")
	// ErrMismatch says that the header contradicts what was expected of it.
	ErrMismatch = errors.New("page header mismatch")
)

// The bit of Info that says that the header is a long one, as PostgreSQL's
// XLP_LONG_HEADER. The first page of every segment has it.
const infoLong = 0x0002

// lastOldMagic is the newest magic of the layout of 9.0 to 9.2: the page's
// address as two halves, high half first, and no length of a continued record.
const lastOldMagic = 0xD071

// Header is the long header of the first page of a segment, as written: none of
// it has been checked.
type Header struct {
	Magic    uint16 // the version of the format, see Major
	Info     uint16 // flags; other bits than 0x2 may be set too
	Timeline walname.Timeline
	PageAddr walname.LSN // address of the page's first byte

	// Long tells that the three below are there; they are zero without it.
	Long        bool
	SystemID    uint64
	SegmentSize uint32 // bytes
	BlockSize   uint32 // bytes in a page of WAL
}

// Parse reads the header from the beginning of a segment's first page, of which
// it needs MinLen bytes and takes no more. Fewer are its only error: what the
// bytes say is for Check to judge. Numbers are read as little-endian; a magic
// that is not known is read in the layout of its older or newer neighbours.
func Parse(page []byte) (Header, error) {
	if len(page) < MinLen {
		return Header{}, fmt.Errorf("page header: %d bytes are too few, it takes %d", len(page), MinLen)
	}
	le := binary.LittleEndian
	h := Header{
		Magic:    le.Uint16(page),
		Info:     le.Uint16(page[2:]),
		Timeline: walname.Timeline(le.Uint32(page[4:])),
	}
	h.Long = h.Info&infoLong != 0
	rest := page[24:]
	if h.Magic <= lastOldMagic {
		h.PageAddr = walname.LSN(le.Uint32(page[8:]))<<32 | walname.LSN(le.Uint32(page[12:]))
		rest = page[16:]
	} else {
		h.PageAddr = walname.LSN(le.Uint64(page[8:]))
	}
	if h.Long {
		h.SystemID = le.Uint64(rest)
		h.SegmentSize = le.Uint32(rest[8:])
		h.BlockSize = le.Uint32(rest[12:])
	}
	return h, nil
}

// Major returns the major version of the PostgreSQL that writes pages of this
// magic, "9.0" to "18"; "" if it is not known. Each release from 9.0 on has a
// magic of its own.
func (h Header) Major() string { return major(h.Magic) }

// Known reports whether the magic is that of a PostgreSQL from 9.0 to 18.
func (h Header) Known() bool { return h.Major() != "" }

func major(magic uint16) string {
	switch magic {
	case 0xD064:
		return "9.0"
	case 0xD066:
		return "9.1"
	case 0xD071:
		return "9.2"
	case 0xD075:
		return "9.3"
	case 0xD07E:
		return "9.4"
	case 0xD085, 0xD087: // 9.5alpha1, and 9.5 as released
		return "9.5"
	case 0xD093:
		return "9.6"
	case 0xD097:
		return "10"
	case 0xD098:
		return "11"
	case 0xD101:
		return "12"
	case 0xD106:
		return "13"
	case 0xD10D:
		return "14"
	case 0xD110:
		return "15"
	case 0xD113:
		return "16"
	case 0xD116:
		return "17"
	case 0xD118:
		return "18"
	}
	return ""
}

// Check compares h with the segment's name, the geometry of its cluster and the
// cluster's system identifier, which is not compared if it is 0. It returns nil
// if all of them agree.
//
// The error wraps ErrMagic if the magic is not known; nothing else has been
// compared then, because it may be anything. Otherwise it wraps ErrMismatch and
// says what the header says, and what was expected, of the first of these:
//
//   - the long header's flag is missing
//   - the system identifier differs
//   - the segment size differs
//   - the page's address is not where the segment begins, or the cluster has no
//     segment of that name
//   - the timeline is 0 or above the name's. It may be lower: the first segment
//     of a timeline begins with its parent's pages.
func (h Header) Check(name walname.Segment, g walname.Geometry, systemID uint64) error {
	if !h.Known() {
		return h.unknown()
	}
	if !h.Long {
		return fmt.Errorf("%w: no long header (info 0x%04X), which begins every segment", ErrMismatch, h.Info)
	}
	if systemID != 0 && h.SystemID != systemID {
		return fmt.Errorf("%w: the system identifier is %d, expected %d", ErrMismatch, h.SystemID, systemID)
	}
	if int64(h.SegmentSize) != g.SegmentSize {
		return fmt.Errorf("%w: the segment size is %d, expected %d", ErrMismatch, h.SegmentSize, g.SegmentSize)
	}
	if err := g.Check(name); err != nil {
		return fmt.Errorf("%w: %w", ErrMismatch, err)
	}
	if want := g.Start(name); h.PageAddr != want {
		return fmt.Errorf("%w: the page address is %s, expected %s", ErrMismatch, h.PageAddr, want)
	}
	if h.Timeline == 0 || h.Timeline > name.Timeline {
		return fmt.Errorf("%w: the timeline is %d, expected at most %d and not 0", ErrMismatch, uint32(h.Timeline), uint32(name.Timeline))
	}
	return nil
}

// Fits compares what can be compared if the magic is not known: it reports
// whether the rest of the header is that of the segment, in this layout.
func (h Header) Fits(name walname.Segment, g walname.Geometry, systemID uint64) bool {
	return h.Long && h.SystemID == systemID && int64(h.SegmentSize) == g.SegmentSize &&
		g.Check(name) == nil && h.PageAddr == g.Start(name)
}

// Old reports whether the magic is one of 9.0 to 9.2, whose logs lack their
// last segment.
func (h Header) Old() bool { return h.Magic <= lastOldMagic }

// unknown returns the error for a magic that is not known.
func (h Header) unknown() error {
	if m := major(bits.ReverseBytes16(h.Magic)); m != "" {
		return fmt.Errorf("%w 0x%04X: looks like WAL of PostgreSQL %s from a big-endian machine", ErrMagic, h.Magic, m)
	}
	return fmt.Errorf("%w 0x%04X: not WAL of PostgreSQL 9.0 to 18 as released", ErrMagic, h.Magic)
}
