// Package walname holds the names and addresses that PostgreSQL 9.0 to 18 give
// their write-ahead log as plain values: segments, partial segments, timeline
// histories and backup labels, timelines, positions and segment sizes. A name
// that Parse accepts prints as the very text it came from, and what PostgreSQL
// would not write is an error. The package never touches a file or the network,
// never keeps state, and never guesses.
//
// All functions may be called concurrently.
package walname

import (
	"errors"
	"fmt"
	"strings"
)

// ErrName is wrapped by every error of [Parse].
var ErrName = errors.New("not a WAL file name")

// Kind tells what sort of file a name stands for.
type Kind uint8

// The kinds of files that archive_command is given. The zero Kind is none of
// them.
const (
	KindSegment Kind = iota + 1 // 000000010000000A000000FE
	KindPartial                 // 000000010000000A000000FE.partial: the unfinished last segment of a timeline that was left, 9.5 and later
	KindHistory                 // 00000002.history
	KindBackup                  // 000000010000000A000000FE.00000028.backup
)

// String returns "segment", "partial", "history" or "backup".
func (k Kind) String() string {
	switch k {
	case KindSegment:
		return "segment"
	case KindPartial:
		return "partial"
	case KindHistory:
		return "history"
	case KindBackup:
		return "backup"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Name is the name of one WAL file. Names are comparable: two of them are equal
// when they print alike.
type Name struct {
	Kind    Kind
	Segment Segment // of KindHistory only its Timeline is set
	Offset  uint32  // of KindBackup: where in Segment the backup begins, bytes
}

const (
	segmentDigits  = 24
	timelineDigits = 8
	partialSuffix  = ".partial"
	historySuffix  = ".history"
	backupSuffix   = ".backup"
)

// Parse reads a base name as PostgreSQL writes it: upper-case hexadecimal
// digits, all leading zeros, nothing before and nothing after. Timeline 0 and a
// segment number of 0x1000 or more, which no segment size reaches, are errors;
// whether the number suits the segment size is for [Geometry.Check] to say.
// Every error wraps [ErrName]. When it is nil, the Name prints as s.
func Parse(s string) (Name, error) {
	n, ok := parse(s)
	switch {
	case !ok:
		return Name{}, fmt.Errorf("%s: %w", quote(s), ErrName)
	case n.Segment.Timeline == 0:
		return Name{}, fmt.Errorf("%s: %w: there is no timeline 0", quote(s), ErrName)
	case n.Segment.Seg >= maxSegmentsPerLog:
		return Name{}, fmt.Errorf("%s: %w: segment number %08X is above %08X", quote(s), ErrName, n.Segment.Seg, maxSegmentsPerLog-1)
	}
	return n, nil
}

// parse reads the digits and the suffix of a name, whatever the digits say.
func parse(s string) (Name, bool) {
	if digits, ok := strings.CutSuffix(s, historySuffix); ok {
		tl, ok := parseHex8(digits)
		return Name{Kind: KindHistory, Segment: Segment{Timeline: Timeline(tl)}}, ok
	}
	if len(s) < segmentDigits {
		return Name{}, false
	}
	seg, ok := parseSegment(s[:segmentDigits])
	if !ok {
		return Name{}, false
	}
	switch suffix := s[segmentDigits:]; {
	case suffix == "":
		return Name{Kind: KindSegment, Segment: seg}, true
	case suffix == partialSuffix:
		return Name{Kind: KindPartial, Segment: seg}, true
	case suffix[0] == '.':
		digits, ok := strings.CutSuffix(suffix[1:], backupSuffix)
		if !ok {
			return Name{}, false
		}
		offset, ok := parseHex8(digits)
		return Name{Kind: KindBackup, Segment: seg, Offset: offset}, ok
	}
	return Name{}, false
}

// String returns the name of the file. For a Name of no known Kind, which Parse
// never returns, it is no WAL file name.
func (n Name) String() string {
	switch n.Kind {
	case KindSegment:
		return n.Segment.String()
	case KindPartial:
		return n.Segment.String() + partialSuffix
	case KindHistory:
		return n.Segment.Timeline.String() + historySuffix
	case KindBackup:
		return fmt.Sprintf("%s.%08X%s", n.Segment, n.Offset, backupSuffix)
	}
	return n.Kind.String()
}

// Timeline returns the timeline that the name begins with.
func (n Name) Timeline() Timeline { return n.Segment.Timeline }

// parseSegment reads the digits of a segment, of which s holds segmentDigits.
func parseSegment(s string) (Segment, bool) {
	tl, ok1 := parseHex8(s[:8])
	log, ok2 := parseHex8(s[8:16])
	seg, ok3 := parseHex8(s[16:])
	return Segment{Timeline(tl), log, seg}, ok1 && ok2 && ok3
}

// parseHex8 reads exactly eight upper-case hexadecimal digits.
func parseHex8(s string) (uint32, bool) {
	if len(s) != 8 {
		return 0, false
	}
	var v uint32
	for i := range 8 {
		switch c := s[i]; {
		case '0' <= c && c <= '9':
			v = v<<4 | uint32(c-'0')
		case 'A' <= c && c <= 'F':
			v = v<<4 | uint32(c-'A'+10)
		default:
			return 0, false
		}
	}
	return v, true
}

// maxQuoted bounds what an error repeats of a text that somebody else wrote.
const maxQuoted = 80

// quote returns s in quotes, its odd bytes escaped and its end left off when it
// is long.
func quote(s string) string {
	if len(s) > maxQuoted {
		return fmt.Sprintf("%q… (%d bytes)", s[:maxQuoted], len(s))
	}
	return fmt.Sprintf("%q", s)
}
