package config

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0s":                         0,
		"30s":                        30 * time.Second,
		"1h30m":                      90 * time.Minute,
		"1.5s":                       1500 * time.Millisecond,
		".5h":                        30 * time.Minute,
		"250ms":                      250 * time.Millisecond,
		"7us":                        7 * time.Microsecond,
		"7µs":                        7 * time.Microsecond,
		"30d":                        720 * time.Hour,
		"2w":                         336 * time.Hour,
		"1d12h":                      36 * time.Hour,
		"1.5d":                       36 * time.Hour,
		"1w1d1h1m1s1ms":              193*time.Hour + time.Minute + time.Second + time.Millisecond,
		"106751d23h47m16.854775807s": math.MaxInt64,
	} {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
}

func TestParseDurationErrors(t *testing.T) {
	const (
		none = "not a duration, want for example 30s, 5m, 1h30m or 30d"
		long = "too long, a duration ends at 106751d23h47m16.854775807s"
	)
	for text, want := range map[string]string{
		"":                           none,
		"soon":                       none,
		".":                          none,
		" 5s":                        none,
		"+5s":                        none,
		"0":                          "0 lacks a unit, want for example 0s, 0m, 0h or 0d",
		"90":                         "90 lacks a unit, want for example 90s, 90m, 90h or 90d",
		"1h30":                       "30 lacks a unit, want for example 30s, 30m, 30h or 30d",
		"-5s":                        "a duration cannot be negative",
		"-":                          "a duration cannot be negative",
		"5min":                       `unknown unit "min", want w, d, h, m, s, ms, us or ns`,
		"5 m":                        `unknown unit " m", want w, d, h, m, s, ms, us or ns`,
		"5M":                         `unknown unit "M", want w, d, h, m, s, ms, us or ns`,
		"1h-5m":                      `unknown unit "h-", want w, d, h, m, s, ms, us or ns`,
		"1.2.3s":                     `"1.2.3" is not a number`,
		".s":                         `"." is not a number`,
		"106752d":                    long,
		"213504d":                    long, // 1525 s in 64 bits
		"15251w":                     long,
		"99999999999999999999s":      long,
		"106751d23h47m16.854775808s": long,
	} {
		if got, err := ParseDuration(text); err == nil || err.Error() != want {
			t.Errorf("ParseDuration(%q) = %v, %v, want error %q", text, got, err, want)
		}
	}
}

func TestFormatDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                       "0s",
		1:                       "1ns",
		1500 * time.Millisecond: "1.5s",
		2 * time.Minute:         "2m",
		90 * time.Minute:        "1h30m",
		36 * time.Hour:          "1d12h",
		720 * time.Hour:         "30d",
		336 * time.Hour:         "2w",
		24*time.Hour + 5:        "1d5ns",
		math.MaxInt64:           "106751d23h47m16.854775807s",
	} {
		if got := FormatDuration(d); got != want {
			t.Errorf("FormatDuration(%d) = %q, want %q", d, got, want)
		}
	}
}

// What both know, ParseDuration reads as the standard library does; and what
// FormatDuration writes comes back as the very same.
func FuzzParseDuration(f *testing.F) {
	for _, seed := range []string{"30s", "1h30m", "30d", "2w", "1d12h", "1.5d", "0.1w", ".5h", "90", "-1s", "µs", "1µs", "9223372036854775807ns", "15250.2w"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseDuration(text)
		std, stdErr := time.ParseDuration(text)
		comparable := !strings.ContainsAny(text, "dw+-") && text != "0"
		if comparable && ((err == nil) != (stdErr == nil) || d != std) {
			t.Errorf("ParseDuration(%q) = %v, %v; time.ParseDuration: %v, %v", text, d, err, std, stdErr)
		}
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Errorf("ParseDuration(%q): error of several lines: %q", text, err)
			}
			return
		}
		if d < 0 {
			t.Errorf("ParseDuration(%q) = %v", text, d)
		}
		if back, err := ParseDuration(FormatDuration(d)); err != nil || back != d {
			t.Errorf("%q is %d ns, written %q, read back as %d, %v", text, d, FormatDuration(d), back, err)
		}
	})
}
