package pgserver

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"walship/walname"
)

// epoch is SQL for a moment as microseconds since 1970, which reads the same
// whatever time zone and integer_datetimes are.
func (c *Conn) epoch(moment string) string {
	return "round((extract(epoch FROM " + moment + ") * 1000000)::numeric, 0)"
}

// instant reads what epoch returns; NULL is the zero time.
func instant(s string) (time.Time, error) {
	if s == Null || s == "" {
		return time.Time{}, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is no time", s)
	}
	return time.UnixMicro(n).UTC(), nil
}

func count(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// plain is a text, with NULL as "".
func plain(s string) string {
	if s == Null {
		return ""
	}
	return s
}

// quantity reads a number of bytes as SHOW prints it: 16MB, 8192, 8kB, 1GB.
func quantity(s string) (int64, error) {
	digits := s[:len(s)-len(strings.TrimLeft(s, "0123456789"))]
	n, err := strconv.ParseInt(digits, 10, 64)
	unit, ok := map[string]int64{"": 1, "B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}[s[len(digits):]]
	if err != nil || !ok || n > 1<<40 {
		return 0, fmt.Errorf("%q is no number of bytes", s)
	}
	return n * unit, nil
}

// position reads an LSN and, if there is one, a timeline.
func position(lsn, timeline string) (walname.LSN, walname.Timeline, error) {
	l, err := walname.ParseLSN(lsn)
	if err != nil {
		return 0, 0, err
	}
	if timeline == "" {
		return l, 0, nil
	}
	t, err := strconv.ParseUint(timeline, 10, 32)
	if err != nil || t == 0 {
		return 0, 0, fmt.Errorf("%q is no timeline", timeline)
	}
	return l, walname.Timeline(t), nil
}

func sorted(set map[string]bool) []string { return slices.Sorted(maps.Keys(set)) }

func unhex(s string) ([]byte, error) {
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil, errors.New("the server's answer is not hexadecimal")
	}
	return b, nil
}
