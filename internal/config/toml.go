package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// entry is one setting of a file.
type entry struct {
	text string
	list []string // of archives, instead of text; nil for any other setting
	line int      // from 1
}

// parse returns the settings of the file called name, by their names. A key that
// is no setting and a value of another type are errors, the uppermost first.
func parse(name string, data []byte) (map[string]entry, error) {
	var top map[string]toml.Primitive
	md, err := toml.Decode(string(data), &top)
	if err != nil {
		return nil, syntaxError(name, err)
	}
	known := slices.DeleteFunc(Settings(), func(s Setting) bool { return s.outside })
	type key struct {
		name  string
		value any
		line  int
	}
	var keys []key
	for name, prim := range top {
		value, line := locate(&md, prim)
		keys = append(keys, key{name, value, line})
	}
	slices.SortFunc(keys, func(a, b key) int {
		return cmp.Or(cmp.Compare(a.line, b.line), strings.Compare(a.name, b.name))
	})

	entries := map[string]entry{}
	for _, k := range keys {
		place := fmt.Sprintf("%s:%d", printable(name), k.line)
		if k.name == archivesKey {
			list, err := listOf(k.value)
			if err != nil {
				return nil, fmt.Errorf("%s (%s): %w", k.name, place, err)
			}
			if other, ok := entries["archive"]; ok {
				return nil, bothArchives(name, k.line, other.line)
			}
			entries["archive"] = entry{list: list, line: k.line}
			continue
		}
		i := slices.IndexFunc(known, func(s Setting) bool { return s.Name == k.name })
		if i < 0 {
			return nil, fmt.Errorf("%s: %s", place, unknownKey(k.name, k.value, known))
		}
		text, err := textOf(known[i], k.value)
		if err != nil {
			return nil, fmt.Errorf("%s (%s): %w", k.name, place, err)
		}
		if other, ok := entries[k.name]; ok {
			return nil, bothArchives(name, other.line, k.line)
		}
		entries[k.name] = entry{text: text, line: k.line}
	}
	return entries, nil
}

// textOf returns the value of s as text.
func textOf(s Setting, value any) (string, error) {
	onOff := slices.Contains(s.Words, "on")
	switch v := value.(type) {
	case string:
		return v, nil
	case []any:
		var texts []string
		for _, one := range v {
			if text, ok := one.(string); ok && s.list {
				texts = append(texts, text)
			} else if s.list {
				return "", fmt.Errorf("want texts in quotes, not %s", kind(one))
			}
		}
		if s.list {
			return strings.Join(texts, "\n"), nil
		}
	case int64:
		if s.number {
			return strconv.FormatInt(v, 10), nil
		}
	case bool:
		if onOff && v {
			return "on", nil
		}
		if onOff {
			return "off", nil
		}
	}
	example := ""
	if s.Default != "" {
		example = fmt.Sprintf(" such as %s = %q", s.Name, s.Default)
	}
	return "", fmt.Errorf("want text in quotes%s, not %s", example, kind(value))
}

// kind describes a TOML value for a message.
func kind(value any) string {
	switch v := value.(type) {
	case string:
		return "a text"
	case bool, int64, float64:
		return fmt.Sprintf("%v", v)
	case time.Time:
		return "a date"
	case map[string]any:
		return "a table"
	default:
		return "a list"
	}
}

// syntaxError says where the file is no TOML.
func syntaxError(name string, err error) error {
	var p toml.ParseError
	if !errors.As(err, &p) {
		return fmt.Errorf("%s: %s", printable(name), printable(err.Error()))
	}
	hint := ""
	if strings.HasPrefix(p.Message, "expected value but found") {
		hint = " (text stands in quotes: key = \"text\")"
	}
	return fmt.Errorf("%s:%d: %s%s", printable(name), p.Position.Line, printable(p.Message), hint)
}

// errLocate is what a probe answers to learn its place.
var errLocate = errors.New("locate")

// probe keeps the value that it is given. The library tells the line of a key
// only together with an error, so a probe always fails.
type probe struct{ value any }

func (p *probe) UnmarshalTOML(value any) error {
	p.value = value
	return errLocate
}

// locate returns the value of prim and its line. A table that only its members
// imply, as a in a.b = 1, stands where the first of them does.
func locate(md *toml.MetaData, prim toml.Primitive) (value any, line int) {
	var p probe
	var at toml.ParseError
	if errors.As(md.PrimitiveDecode(prim, &p), &at) {
		line = at.Position.Line
	}
	if _, ok := p.value.(map[string]any); !ok || line > 0 {
		return p.value, line
	}
	var members map[string]toml.Primitive
	if md.PrimitiveDecode(prim, &members) == nil {
		for member := range maps.Values(members) {
			if _, n := locate(md, member); line == 0 || n > 0 && n < line {
				line = n
			}
		}
	}
	return p.value, line
}

// unknownKey describes a key that is no setting, with the one that was
// probably meant or, if none is near, all of them.
func unknownKey(name string, value any, known []Setting) string {
	names := make([]string, len(known))
	for i, s := range known {
		names[i] = s.Name
	}
	if _, ok := value.(map[string]any); ok {
		return fmt.Sprintf("unknown table %q: settings stand at the top of the file, in no table", name)
	}
	folded := strings.ToLower(name)
	near := slices.MinFunc(names, func(a, b string) int {
		return cmp.Compare(distance(folded, a), distance(folded, b))
	})
	if distance(folded, near) <= max(1, len(near)/3) {
		return fmt.Sprintf("unknown key %q: did you mean %q?", name, near)
	}
	return fmt.Sprintf("unknown key %q: want %s", name, anyOf(names))
}

// distance is the number of bytes to insert, delete or replace between a and b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
