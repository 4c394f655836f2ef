package pgdata

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Setting is one assignment in a configuration file.
type Setting struct {
	Name  string // A to Z as small letters: PostgreSQL does not tell them apart
	Value string // without quotes and escapes, units and all, in the file's own encoding
	File  string // absolute path
	Line  int    // counted from 1
}

const (
	maxDepth    = 10    // of includes within includes, PostgreSQL's own limit
	maxIncludes = 10000 // of files in all, against includes that multiply
)

// ReadConf returns the settings of a configuration file of PostgreSQL, such as
// postgresql.conf, postgresql.auto.conf or the recovery.conf of 9.1 to 11, in
// the order in which they are applied: of several with the same name the last
// one holds, see [Lookup]. Files that it includes are read in their places.
//
// The grammar is that of PostgreSQL's guc-file.l. A file that the server would
// refuse, because of its grammar or because an included file is missing, is an
// error that tells file and line, without any settings; it wraps fs.ErrNotExist
// if path or an included file is not there. Whether a setting exists and what
// its value means is not checked.
func ReadConf(path string) ([]Setting, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	var r confReader
	if err := r.file(path, 0); err != nil {
		return nil, err
	}
	return r.settings, nil
}

// Lookup returns the setting of that name, in small letters, which holds: the
// last one.
func Lookup(settings []Setting, name string) (Setting, bool) {
	for i := len(settings) - 1; i >= 0; i-- {
		if settings[i].Name == name {
			return settings[i], true
		}
	}
	return Setting{}, false
}

// confReader gathers the settings of a file and of those that it includes.
type confReader struct {
	settings []Setting
	files    int
}

func (r *confReader) file(path string, depth int) error {
	if r.files++; depth > maxDepth || r.files > maxIncludes {
		return fmt.Errorf("%s: too many includes", path)
	}
	data, err := read(path)
	if err != nil {
		return err
	}
	return r.parse(path, string(data), depth)
}

func (r *confReader) parse(path, text string, depth int) error {
	s := scanner{src: text, line: 1}
	for {
		line := s.line
		kind := s.next()
		switch kind {
		case tokenEnd:
			return nil
		case tokenLine:
			continue
		case tokenName, tokenQualified:
		default:
			return syntaxError(path, line, kind, s.text)
		}
		set := Setting{Name: lower(s.text), File: path, Line: line}

		if kind = s.next(); kind == tokenEquals {
			kind = s.next()
		}
		switch kind {
		case tokenString:
			set.Value = unescape(s.text)
		case tokenName, tokenNumber, tokenUnquoted:
			set.Value = s.text
		default: // name.name too: without quotes it is no value
			return syntaxError(path, line, kind, s.text)
		}
		if kind = s.next(); kind != tokenLine && kind != tokenEnd {
			return syntaxError(path, line, kind, s.text)
		}
		if err := r.apply(set, depth); err != nil {
			return err
		}
	}
}

// apply carries out an include and keeps everything else.
func (r *confReader) apply(set Setting, depth int) error {
	var err error
	switch set.Name {
	case "include", "include_if_exists":
		err = r.include(set, depth)
	case "include_dir":
		err = r.includeDir(set, depth)
	default:
		r.settings = append(r.settings, set)
	}
	if err != nil {
		return fmt.Errorf("%s, line %d: %s: %w", set.File, set.Line, set.Name, err)
	}
	return nil
}

func (r *confReader) include(set Setting, depth int) error {
	path, err := beside(set)
	if err != nil {
		return err
	}
	// What cannot be opened is passed over, whatever the reason.
	if _, err := os.Stat(path); err != nil && set.Name == "include_if_exists" {
		return nil
	}
	return r.file(path, depth+1)
}

func (r *confReader) includeDir(set Setting, depth int) error {
	dir, err := beside(set)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(dir) // sorted by bytes, as PostgreSQL does
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") || !strings.HasSuffix(name, ".conf") {
			continue
		}
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if info.IsDir() {
			continue
		}
		if err := r.file(path, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// beside returns the path that an include names, which is relative to the
// folder of the file that it stands in.
func beside(set Setting) (string, error) {
	if strings.Trim(set.Value, " \t\r\n") == "" {
		return "", fmt.Errorf("no file name")
	}
	path := set.Value
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(set.File), path)
	}
	if path = filepath.Clean(path); path == set.File {
		return "", fmt.Errorf("the file includes itself")
	}
	return path, nil
}

func syntaxError(path string, line int, kind token, text string) error {
	if kind == tokenLine || kind == tokenEnd {
		return fmt.Errorf("%s, line %d: syntax error at the end of the line", path, line)
	}
	return fmt.Errorf("%s, line %d: syntax error at %q", path, line, clip(text))
}

// lower makes A to Z small and keeps every other byte.
func lower(s string) string {
	out := []byte(s)
	for i, c := range out {
		if 'A' <= c && c <= 'Z' {
			out[i] = c | 0x20
		}
	}
	return string(out)
}

// parseBool reads a boolean as PostgreSQL does: true, yes, on, 1, false, no,
// off, 0, in any case, and every beginning of them that is unambiguous.
func parseBool(s string) (value, ok bool) {
	s = lower(s)
	switch {
	case s == "":
		return false, false
	case s == "1", s == "on", strings.HasPrefix("true", s), strings.HasPrefix("yes", s):
		return true, true
	case s == "0", s == "of", s == "off", strings.HasPrefix("false", s), strings.HasPrefix("no", s):
		return false, true
	}
	return false, false
}
