package walname

import (
	"fmt"
	"strconv"
	"strings"
)

// Timeline is the id of one line of a cluster's history, counted from 1; each
// promotion and each recovery to a point in time begins a new one.
type Timeline uint32

// String returns eight upper-case hexadecimal digits, as in a file's name.
func (t Timeline) String() string { return fmt.Sprintf("%08X", uint32(t)) }

// ParseTimeline reads what String prints, and nothing else. Timeline 0 is an
// error.
func ParseTimeline(s string) (Timeline, error) {
	t, ok := parseHex8(s)
	if !ok {
		return 0, fmt.Errorf("timeline %s is not %d upper-case hexadecimal digits", quote(s), timelineDigits)
	}
	if t == 0 {
		return 0, fmt.Errorf("timeline %s: there is no timeline 0", quote(s))
	}
	return Timeline(t), nil
}

// LSN is a position in the write-ahead log: a byte's address.
type LSN uint64

// String returns the position as PostgreSQL 9.0 to 18 print it: both halves in
// upper-case hexadecimal digits without leading zeros, as in 16/B374D848.
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)) }

// ParseLSN reads a position by the grammar of PostgreSQL's type pg_lsn: one to
// eight hexadecimal digits, a slash, one to eight hexadecimal digits. Small
// letters and leading zeros are accepted; signs, spaces and prefixes are not.
func ParseLSN(s string) (LSN, error) {
	high, low, _ := strings.Cut(s, "/")
	h, ok1 := parseHalf(high)
	l, ok2 := parseHalf(low)
	if !ok1 || !ok2 {
		return 0, fmt.Errorf("WAL position %s is not of the form 16/B374D848", quote(s))
	}
	return LSN(h<<32 | l), nil
}

// MarshalText writes what String returns.
func (l LSN) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads what ParseLSN reads.
func (l *LSN) UnmarshalText(text []byte) (err error) {
	*l, err = ParseLSN(string(text))
	return err
}

// parseHalf reads one to eight hexadecimal digits. The length is checked first
// and a base is given, so ParseUint accepts neither prefix nor underscore, and
// never a sign.
func parseHalf(s string) (uint64, bool) {
	if len(s) > 8 {
		return 0, false
	}
	v, err := strconv.ParseUint(s, 16, 32)
	return v, err == nil
}
