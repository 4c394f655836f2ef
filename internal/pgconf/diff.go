package pgconf

import (
	"bytes"
	"fmt"
	"strings"
)

// Color are the marks around the parts of a diff; the zero value is none.
type Color struct {
	Head, Add, Remove, Place, End string
}

// ANSI are the usual colours of a terminal.
var ANSI = Color{Head: "\x1b[1m", Add: "\x1b[32m", Remove: "\x1b[31m", Place: "\x1b[36m", End: "\x1b[0m"}

// context is how many lines around a change are shown.
const context = 3

// Diff shows the change in the manner of diff -u. Of a secret file it tells
// only that it changes. Bytes that are no text are shown as question marks.
func (e Edit) Diff(c Color) string {
	if !e.Changes() {
		return ""
	}
	from, to := e.Path, e.Path
	if e.Old == nil {
		from = "/dev/null"
	}
	if e.New == nil {
		to = "/dev/null"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s--- %s%s\n%s+++ %s%s\n", c.Head, from, c.End, c.Head, to, c.End)
	if e.Secret {
		what := "the content changes"
		if e.Old == nil {
			what = fmt.Sprintf("a new file, mode %04o", e.Mode)
		}
		fmt.Fprintf(&b, "(%s; it is secret and not shown)\n", what)
		return b.String()
	}
	writeHunks(&b, c, compare(lines(e.Old), lines(e.New)))
	return b.String()
}

// lines cuts text behind each newline.
func lines(text []byte) []string {
	var list []string
	for line := range bytes.Lines(text) {
		list = append(list, string(line))
	}
	return list
}

// change is one line of a comparison: ' ', '-' or '+'.
type change struct {
	kind byte
	text string
}

// compare finds a shortest way from old to new, line by line. Configuration
// files are short: it takes time and memory in the product of the lines that
// differ at all.
func compare(old, new []string) []change {
	var all []change
	for len(old) > 0 && len(new) > 0 && old[0] == new[0] {
		all = append(all, change{' ', old[0]})
		old, new = old[1:], new[1:]
	}
	var tail []change
	for len(old) > 0 && len(new) > 0 && old[len(old)-1] == new[len(new)-1] {
		tail = append(tail, change{' ', old[len(old)-1]})
		old, new = old[:len(old)-1], new[:len(new)-1]
	}
	common := make([][]int, len(old)+1) // length of the longest common rest
	for i := range common {
		common[i] = make([]int, len(new)+1)
	}
	for i := len(old) - 1; i >= 0; i-- {
		for j := len(new) - 1; j >= 0; j-- {
			if old[i] == new[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(old) || j < len(new) {
		switch {
		case i < len(old) && j < len(new) && old[i] == new[j]:
			all = append(all, change{' ', old[i]})
			i, j = i+1, j+1
		case i < len(old) && (j == len(new) || common[i+1][j] >= common[i][j+1]):
			all = append(all, change{'-', old[i]})
			i++
		default:
			all = append(all, change{'+', new[j]})
			j++
		}
	}
	for k := len(tail) - 1; k >= 0; k-- {
		all = append(all, tail[k])
	}
	return all
}

// writeHunks writes the changes with a few lines around them.
func writeHunks(b *strings.Builder, c Color, all []change) {
	shown := make([]bool, len(all))
	for i, ch := range all {
		if ch.kind != ' ' {
			for k := max(0, i-context); k < min(len(all), i+context+1); k++ {
				shown[k] = true
			}
		}
	}
	oldLine, newLine := 1, 1
	for i := 0; i < len(all); {
		if !shown[i] {
			oldLine, newLine = oldLine+1, newLine+1
			i++
			continue
		}
		end, oldCount, newCount := i, 0, 0
		for end < len(all) && shown[end] {
			if all[end].kind != '+' {
				oldCount++
			}
			if all[end].kind != '-' {
				newCount++
			}
			end++
		}
		fmt.Fprintf(b, "%s@@ -%s +%s @@%s\n", c.Place, hunkRange(oldLine, oldCount), hunkRange(newLine, newCount), c.End)
		for ; i < end; i++ {
			writeLine(b, c, all[i])
		}
		oldLine, newLine = oldLine+oldCount, newLine+newCount
	}
}

func hunkRange(line, count int) string {
	if count == 0 {
		line--
	}
	return fmt.Sprintf("%d,%d", line, count)
}

func writeLine(b *strings.Builder, c Color, ch change) {
	text, ended := strings.CutSuffix(ch.text, "\n")
	text = strings.TrimSuffix(text, "\r")
	text = strings.Map(func(r rune) rune {
		if r < 0x20 && r != '\t' || r == 0x7f || r == 0xfffd {
			return '?'
		}
		return r
	}, text)
	begin, finish := "", ""
	switch ch.kind {
	case '+':
		begin, finish = c.Add, c.End
	case '-':
		begin, finish = c.Remove, c.End
	}
	fmt.Fprintf(b, "%s%c%s%s\n", begin, ch.kind, text, finish)
	if !ended {
		b.WriteString("\\ No newline at end of file\n")
	}
}
