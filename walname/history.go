package walname

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

const (
	// maxHistorySize bounds a history file, bytes: room for some 20,000
	// promotions, at about 50 bytes each.
	maxHistorySize = 1 << 20
	// maxHistoryLine bounds a line, bytes: PostgreSQL reads at most so many at
	// once and would take the rest for a line of its own.
	maxHistoryLine = 1023
)

// Ancestor is one line of a history file: a timeline and where it was left.
type Ancestor struct {
	Timeline Timeline

	// Switch is the first position that no longer belongs to Timeline, as
	// PostgreSQL 9.3 and later record it; zero in the files of 9.0 to 9.2.
	Switch LSN

	// SwitchSegment is what 9.0 to 9.2 record instead, and zero otherwise: the
	// segment of the last byte before the switch point. That is the segment in
	// which Timeline was left, or the one at whose very end it was. Its
	// Timeline is that of the file which recovery was reading, and may be lower
	// than the ancestor's.
	SwitchSegment Segment

	// Reason is the rest of the line, for people to read. Its encoding is the
	// server's.
	Reason string
}

// Exact reports whether the switch point is known to the byte, in Switch, and
// not only by SwitchSegment.
func (a Ancestor) Exact() bool { return a.SwitchSegment == Segment{} }

// History is the content of a timeline's history file.
type History struct {
	Timeline Timeline // whose history it is

	// Ancestors are the timelines that it descends from, oldest first, by
	// increasing id. Their switch points need not increase: recovery that aims
	// at a timeline may end before that timeline's own beginning, and still
	// names it as the parent. So what h shares with an ancestor ends at the
	// lowest switch point among that ancestor's and all later ones'.
	Ancestors []Ancestor
}

// Parent returns the timeline that h forked from and where, the last of the
// Ancestors; the zero Ancestor if there are none, which ParseHistory never
// returns.
func (h History) Parent() Ancestor {
	if len(h.Ancestors) == 0 {
		return Ancestor{}
	}
	return h.Ancestors[len(h.Ancestors)-1]
}

// Ancestor returns the line of tl, or false if h does not descend from it.
func (h History) Ancestor(tl Timeline) (Ancestor, bool) {
	for _, a := range h.Ancestors {
		if a.Timeline == tl {
			return a, true
		}
	}
	return Ancestor{}, false
}

// ParseHistory reads the history file of timeline tl by the grammar of
// PostgreSQL's readTimeLineHistory: on each line, separated by white space, a
// timeline in decimal digits, the switch point (9.0 to 9.2: the name of a
// segment), and a reason. Blank lines and lines that begin with # are ignored.
// The timelines increase and are below tl.
//
// Stricter than PostgreSQL, it is an error if the file names no ancestor, holds
// a NUL, or ends within a switch point: such a file is torn. So are more than
// 1 MB, and a line of more than 1,023 bytes.
func ParseHistory(tl Timeline, data []byte) (History, error) {
	h, err := parseHistory(tl, data)
	if err != nil {
		return History{}, fmt.Errorf("history of timeline %s: %w", tl, err)
	}
	return h, nil
}

func parseHistory(tl Timeline, data []byte) (History, error) {
	if len(data) > maxHistorySize {
		return History{}, fmt.Errorf("%d bytes are more than %d", len(data), maxHistorySize)
	}
	if i := bytes.IndexByte(data, 0); i >= 0 {
		return History{}, fmt.Errorf("a NUL at byte %d: not a text file", i)
	}
	h := History{Timeline: tl}
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		if n := len(strings.TrimSuffix(line, "\n")); n > maxHistoryLine {
			return History{}, fmt.Errorf("line %d: %d bytes are more than %d", number, n, maxHistoryLine)
		}
		if text := strings.TrimLeft(line, spaces); text == "" || text[0] == '#' {
			continue
		}
		a, err := parseAncestor(line)
		if err != nil {
			return History{}, fmt.Errorf("line %d: %w", number, err)
		}
		if last := h.Parent().Timeline; a.Timeline <= last {
			return History{}, fmt.Errorf("line %d: timeline %d is not above %d", number, a.Timeline, last)
		}
		if a.Timeline >= tl {
			return History{}, fmt.Errorf("line %d: timeline %d is not below %d", number, a.Timeline, tl)
		}
		h.Ancestors = append(h.Ancestors, a)
	}
	if len(h.Ancestors) == 0 {
		return History{}, fmt.Errorf("no ancestor in %d bytes", len(data))
	}
	return h, nil
}

// spaces is what isspace of the C locale calls so.
const spaces = " \t\n\v\f\r"

// parseAncestor reads one line with its end.
func parseAncestor(line string) (Ancestor, error) {
	id, rest := cutField(line)
	point, rest := cutField(rest)

	tl, err := parseDecimal(id)
	if err != nil {
		return Ancestor{}, err
	}
	// PostgreSQL writes a tab behind the switch point. Without anything there
	// it may have lost digits.
	if rest == "" {
		return Ancestor{}, fmt.Errorf("ends within the switch point %s", quote(point))
	}
	a := Ancestor{Timeline: tl, Reason: strings.Trim(rest, spaces)}
	if strings.Contains(point, "/") {
		a.Switch, err = ParseLSN(point)
		return a, err
	}
	n, err := Parse(point)
	if err != nil || n.Kind != KindSegment {
		return Ancestor{}, fmt.Errorf("switch point %s is neither a position nor a segment", quote(point))
	}
	if n.Timeline() > tl {
		return Ancestor{}, fmt.Errorf("segment %s is above its timeline %d", n, tl)
	}
	a.SwitchSegment = n.Segment
	return a, nil
}

// cutField returns the first field of s and what follows it.
func cutField(s string) (field, rest string) {
	s = strings.TrimLeft(s, spaces)
	if i := strings.IndexAny(s, spaces); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

// parseDecimal reads a timeline as it stands inside files. A leading zero is
// refused: 9.0 to 9.2 would read an octal number.
func parseDecimal(s string) (Timeline, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || s[0] == '0' {
		return 0, fmt.Errorf("%s is not a timeline", quote(s))
	}
	return Timeline(n), nil
}
