package config

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

const (
	day  = 24 * time.Hour
	week = 7 * day
)

// ParseDuration reads what [time.ParseDuration] reads, such as "30s" or "1h30m",
// and also d (24 hours) and w (7 days): "30d", "1d12h". There is no sign, and
// every number needs its unit, 0 included. The result is never negative.
func ParseDuration(text string) (time.Duration, error) {
	if strings.HasPrefix(text, "-") {
		return 0, errors.New("a duration cannot be negative")
	}
	var sum time.Duration
	rest := text
	for first := true; first || rest != ""; first = false {
		end := strings.IndexFunc(rest, notNumber)
		if end == 0 || strings.Trim(rest, ".") == "" {
			return 0, errors.New("not a duration, want for example 30s, 5m, 1h30m or 30d")
		}
		if end < 0 {
			return 0, fmt.Errorf("%s lacks a unit, want for example %ss, %sm, %sh or %sd", rest, rest, rest, rest, rest)
		}
		number := rest[:end]
		rest = rest[end:]
		if end = strings.IndexFunc(rest, isNumber); end < 0 {
			end = len(rest)
		}
		d, err := one(number, rest[:end])
		if err != nil {
			return 0, err
		}
		if sum > math.MaxInt64-d {
			return 0, errTooLong()
		}
		sum += d
		rest = rest[end:]
	}
	return sum, nil
}

// one reads a single number with its unit.
func one(number, unit string) (time.Duration, error) {
	factor := time.Duration(1)
	goUnit := unit
	switch unit {
	case "w":
		factor, goUnit = week/time.Hour, "h"
	case "d":
		factor, goUnit = day/time.Hour, "h"
	case "h", "m", "s", "ms", "us", "µs", "μs", "ns":
	default:
		return 0, fmt.Errorf("unknown unit %q, want w, d, h, m, s, ms, us or ns", unit)
	}
	if strings.Count(number, ".") > 1 || number == "." {
		return 0, fmt.Errorf("%q is not a number", number)
	}
	d, err := time.ParseDuration(number + goUnit)
	// The form is right, so what is left to go wrong is the size.
	if err != nil || d > math.MaxInt64/factor {
		return 0, errTooLong()
	}
	return d * factor, nil
}

func errTooLong() error {
	return errors.New("too long, a duration ends at " + FormatDuration(math.MaxInt64))
}

func isNumber(r rune) bool  { return r == '.' || '0' <= r && r <= '9' }
func notNumber(r rune) bool { return !isNumber(r) }

// FormatDuration writes d, which must not be negative, in the short form that
// ParseDuration reads back as the very same: "2w", "30d", "1d12h", "1h30m",
// "1.5s", "0s".
func FormatDuration(d time.Duration) string {
	if d > 0 && d%week == 0 {
		return fmt.Sprintf("%dw", d/week)
	}
	var b strings.Builder
	for _, unit := range []struct {
		size time.Duration
		name string
	}{{day, "d"}, {time.Hour, "h"}, {time.Minute, "m"}} {
		if n := d / unit.size; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, unit.name)
			d -= n * unit.size
		}
	}
	if d != 0 || b.Len() == 0 {
		b.WriteString(d.String())
	}
	return b.String()
}
