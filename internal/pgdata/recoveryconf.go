package pgdata

import (
	"fmt"
	"path/filepath"
	"strings"
)

// recoveryConf is the file that makes PostgreSQL 11 and earlier recover.
const recoveryConf = "recovery.conf"

// readRecoveryConf returns the settings of the recovery.conf in dir. The error
// wraps fs.ErrNotExist if there is none, and also if one that it includes is
// not there. If version is 0, a file that neither grammar accepts is an error.
func readRecoveryConf(dir string, version Version) ([]Setting, error) {
	path := filepath.Join(dir, recoveryConf)
	if version > version90 {
		return ReadConf(path)
	}
	data, err := read(path)
	if err != nil {
		return nil, err
	}
	settings, err := parseConf90(path, string(data))
	if err != nil && version == 0 {
		return ReadConf(path)
	}
	return settings, err
}

// parseConf90 reads the recovery.conf of 9.0, whose grammar is not yet that of
// postgresql.conf: name, what is not a quote, quoted value, perhaps a comment.
// Two quotes in the value are one, a backslash is itself, there are no includes.
func parseConf90(path, text string) ([]Setting, error) {
	var settings []Setting
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.Trim(line, space)
		if line == "" || line[0] == '#' {
			continue
		}
		name := line[:span(line, func(c byte) bool { return strings.IndexByte(space+"='", c) < 0 })]
		_, rest, _ := strings.Cut(line[len(name):], "'")
		value, rest, ok := cutQuoted90(rest)
		rest = strings.TrimLeft(rest, space)
		if !ok || rest != "" && rest[0] != '#' {
			return nil, fmt.Errorf("%s, line %d: syntax error: %q", path, number, clip(line))
		}
		settings = append(settings, Setting{Name: lower(name), Value: value, File: path, Line: number})
	}
	return settings, nil
}

// space is what C's isspace accepts.
const space = " \t\n\v\f\r"

// cutQuoted90 returns the value up to the closing quote, and what follows it;
// false if there is no closing quote.
func cutQuoted90(s string) (value, rest string, ok bool) {
	var b strings.Builder
	for {
		part, after, found := strings.Cut(s, "'")
		if !found {
			return "", "", false
		}
		b.WriteString(part)
		if !strings.HasPrefix(after, "'") {
			return b.String(), after, true
		}
		b.WriteByte('\'')
		s = after[1:]
	}
}
