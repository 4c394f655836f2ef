package main

import (
	"fmt"
	"strings"
	"time"
)

// width is what the story's lines are wrapped at.
const width = 78

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

// types shows what a person would type.
func (s *stage) types(format string, args ...any) {
	s.look()
	s.say("   " + s.paint(cyan, "$ "+fmt.Sprintf(format, args...)))
}

// shows shows the lines of a file or of a program's output.
func (s *stage) shows(text string) {
	s.look()
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		lines := []string{line}
		if len([]rune(line)) > width-5 {
			lines = wrap(line, width-5)
		}
		for _, l := range lines {
			s.say("     " + s.paint(dim, l))
		}
	}
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

// seconds words a duration.
func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// since words the time since t.
func since(t time.Time) string { return seconds(time.Since(t)) }

// megabytes words a size.
func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/(1<<20)) }
