package pgconf

import (
	"fmt"
	"strings"
)

// SetTOML returns the text of a walship.toml with that setting: on the line that
// it has already, or on a new last one. It knows the plain form of a line, which
// is all that walship's own configuration has: a key at the top level with its
// value on the same line. A comment behind the value goes with it.
func SetTOML(text []byte, key, value string) []byte {
	assignment := key + " = " + quoteTOML(value)
	all := lines(text)
	for i, line := range all {
		name, _, found := strings.Cut(line, "=")
		if !found || strings.Trim(name, " \t\"'") != key {
			continue
		}
		all[i] = assignment + line[len(strings.TrimRight(line, "\r\n")):]
		return []byte(strings.Join(all, ""))
	}
	out := string(text)
	if out != "" && !strings.HasSuffix(out, "\n") {
		out += "\n"
	}
	return []byte(out + assignment + "\n")
}

// quoteTOML writes a basic string.
func quoteTOML(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// AppendLine returns the text with the line at its end, unless it is there.
func AppendLine(text []byte, line string) []byte {
	for _, l := range lines(text) {
		if strings.TrimRight(l, "\r\n") == line {
			return text
		}
	}
	out := string(text)
	if out != "" && !strings.HasSuffix(out, "\n") {
		out += "\n"
	}
	return []byte(out + line + "\n")
}
