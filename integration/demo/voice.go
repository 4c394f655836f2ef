package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// width is what the story's lines are wrapped at.
const width = 78

// The colours of a terminal.
const (
	bold  = "1"
	dim   = "2"
	green = "32"
	red   = "31"
	cyan  = "36"
)

// paint colours text where colours are wanted.
func (s *stage) paint(colour, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

func (s *stage) say(text string) { fmt.Fprintln(s.out, text) }

// step begins the next part of the story.
func (s *stage) step(title string) {
	s.look()
	s.number++
	s.say("\n" + s.paint(bold, fmt.Sprintf("%d. %s", s.number, title)))
}

// tell says it in plain sentences.
func (s *stage) tell(format string, args ...any) {
	s.look()
	for _, line := range wrap(fmt.Sprintf(format, args...), width-3) {
		s.say("   " + line)
	}
}

// types shows what a person types on a machine, continued on a new line where it
// is long, but not between an option and its value.
func (s *stage) types(prompt, command string) {
	s.look()
	const glue = "\x00"
	whole := together.ReplaceAllStringFunc(command, func(words string) string { return strings.ReplaceAll(words, " ", glue) })
	lines := wrap(prompt+"$ "+whole, width-9)
	for i, line := range lines {
		line = strings.ReplaceAll(line, glue, " ")
		if i > 0 {
			line = "    " + line
		}
		if i < len(lines)-1 {
			line += " \\"
		}
		s.say("   " + s.paint(cyan, line))
	}
}

// together is what stays on one line of a command: an option and its value, and
// what is quoted.
var together = regexp.MustCompile(`(--[a-z-]+ )?(?:'[^']*'|[^-\s']\S*)`)

// shows shows the lines of a program's output. Where one is too long for the
// story's margin, it is wrapped anew, together with those that the program has
// broken it into.
func (s *stage) shows(text string) {
	s.look()
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for len(lines) > 0 {
		n := paragraph(lines)
		these := lines[:n]
		if slices.ContainsFunc(these, func(l string) bool { return len([]rune(l)) > width-5 }) {
			label := label.FindString(lines[0])
			indent := strings.Repeat(" ", len([]rune(label)))
			room := width - 5 - len(indent)
			these = split(wrap(strings.Join(these, " ")[len(label):], room), room)
			for i := range these {
				these[i] = indent + these[i]
			}
			these[0] = label + these[0][len(indent):]
		}
		for _, l := range these {
			s.say(strings.TrimRight("     "+s.paint(dim, l), " "))
		}
		lines = lines[n:]
	}
}

// label is what stands before a line's text: blanks, and a column of its own.
var label = regexp.MustCompile(`^ *(\S.{0,13}\S  +)?`)

// paragraph is how many of the lines are one that setup has broken at its own
// margin: each goes on in the column of the text, with a word that had no room.
func paragraph(lines []string) int {
	const topic, margin = 17, 79
	n := 1
	for ; len(label.FindString(lines[0])) == topic && n < len(lines); n++ {
		words := strings.TrimLeft(lines[n], " ")
		first, _, _ := strings.Cut(words, " ")
		if first == "" || len(lines[n])-len(words) != topic || len([]rune(lines[n-1]))+1+len([]rune(first)) <= margin {
			break
		}
	}
	return n
}

// quotes shows a message, wrapped.
func (s *stage) quotes(text string) {
	for _, line := range wrap(text, width-5) {
		s.say("     " + s.paint(red, line))
	}
}

// wrap breaks text at blanks.
func wrap(text string, n int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len([]rune(line))+1+len([]rune(word)) > n {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// split breaks the lines that are still longer, behind a slash.
func split(lines []string, n int) (all []string) {
	for _, line := range lines {
		for len(line) > n {
			at := strings.LastIndexByte(line[:n], '/') + 1
			if at == 0 {
				break
			}
			all, line = append(all, line[:at]), line[at:]
		}
		all = append(all, line)
	}
	return all
}

// seconds words a duration.
func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// since words the time since t.
func since(t time.Time) string { return seconds(time.Since(t)) }

// megabytes words a size.
func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/(1<<20)) }
