package pgdata

import (
	"fmt"
	"strconv"
	"strings"
)

// Version is a major version of PostgreSQL, comparable: 90600 is 9.6, 150000 is
// 15. The zero Version is none.
type Version int

// Versions at which what this package reads has changed.
const (
	version90 Version = 90000  // recovery.conf has a grammar of its own
	version93 Version = 90300  // no segment is skipped any more
	version94 Version = 90400  // ALTER SYSTEM writes postgresql.auto.conf
	version10 Version = 100000 // pg_xlog is called pg_wal
	version12 Version = 120000 // signal files instead of recovery.conf
)

// ParseVersion reads the content of a PG_VERSION file: "9.6" or "15", with a
// line end.
func ParseVersion(s string) (Version, error) {
	s = strings.TrimSpace(s)
	first, second, dotted := strings.Cut(s, ".")
	a, ok := small(first)
	b := 0
	if ok && dotted {
		b, ok = small(second)
	}
	// One number names the major version from 10 on, two do before.
	if !ok || dotted != (a < 10) {
		return 0, fmt.Errorf("%q is no major version of PostgreSQL", clip(s))
	}
	return Version(a*10000 + b*100), nil
}

// small reads one or two decimal digits.
func small(s string) (int, bool) {
	if s == "" || len(s) > 2 || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil
}

// String returns the version as PG_VERSION has it, "9.6" or "15".
func (v Version) String() string {
	if v >= version10 {
		return strconv.Itoa(int(v) / 10000)
	}
	return fmt.Sprintf("%d.%d", int(v)/10000, int(v)/100%100)
}

// clip shortens what a message quotes of a file.
func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}
