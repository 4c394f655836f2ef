package main

import (
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

// paint is how results are drawn for people: in colour only on a terminal, and
// not if NO_COLOR is set; with lines and dots only where the locale has them.
type paint struct {
	colour bool
	ascii  bool
	width  int // columns
	zone   *time.Location
}

// paint tells how to draw on standard output.
func (v *voice) paint() paint {
	p := paint{width: 80, ascii: !utf8Locale(), zone: time.Local}
	if !isTerminal(v.out) {
		return p
	}
	p.colour = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	if width, _, err := term.GetSize(int(v.out.Fd())); err == nil && width >= 40 {
		p.width = min(width, 120)
	}
	return p
}

// utf8Locale reports whether the environment promises UTF-8, as libc reads it.
func utf8Locale() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if value := os.Getenv(name); value != "" {
			value = strings.ToLower(value)
			return strings.Contains(value, "utf-8") || strings.Contains(value, "utf8")
		}
	}
	return false
}

func (p paint) escape(code, text string) string {
	if !p.colour || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p paint) bold(text string) string   { return p.escape("1", text) }
func (p paint) faint(text string) string  { return p.escape("2", text) }
func (p paint) red(text string) string    { return p.escape("1;31", text) }
func (p paint) green(text string) string  { return p.escape("32", text) }
func (p paint) yellow(text string) string { return p.escape("33", text) }

// plainSigns are what stands for a sign where there is no UTF-8.
var plainSigns = strings.NewReplacer("●", "o", "│", "|", "├─", "+-", "…", "..", "█", "#", "▌", "", "✓", "ok", "✗", "x")

// signs returns text with signs that the locale has.
func (p paint) signs(text string) string {
	if !p.ascii {
		return text
	}
	return plainSigns.Replace(text)
}

// time writes a moment; "-" if it is not known.
func (p paint) time(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.In(p.zone).Format("2006-01-02 15:04:05")
}

// from names the time zone of what time writes.
func (p paint) timeZone(at time.Time) string { return at.In(p.zone).Format("MST") }

// wrapped cuts text into lines of at most width columns, between words.
func wrapped(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	return append(lines, line)
}
