package pgconf

import (
	"slices"
	"strings"

	"walship/internal/pgdata"
)

// AutoFile is the file that ALTER SYSTEM writes. Its settings win over those of
// postgresql.conf and of what that includes.
const AutoFile = "postgresql.auto.conf"

// Overruled returns the settings of postgresql.auto.conf that stand against list,
// which is going into walship's own file.
func (p Present) Overruled(list []Assignment) (conflicts []Conflict) {
	for _, a := range list {
		set, at := p.administrators(a.Name)
		if at >= 0 && strings.HasSuffix(set.File, "/"+AutoFile) && set.Value != a.Value {
			conflicts = append(conflicts, Conflict{Want: a, Have: set, Wins: true})
		}
	}
	return conflicts
}

// RemoveAuto returns the text of a postgresql.auto.conf without those settings, as
// ALTER SYSTEM RESET leaves it: for a server that does not run. A setting has one
// line there, which begins with its name.
func RemoveAuto(text []byte, names []string) []byte {
	var kept strings.Builder
	for _, line := range lines(text) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), "=")
		if !slices.Contains(names, lower(strings.TrimSpace(name))) {
			kept.WriteString(line)
		}
	}
	return []byte(kept.String())
}

// InAuto reports whether the setting is one of postgresql.auto.conf.
func InAuto(s pgdata.Setting) bool { return strings.HasSuffix(s.File, "/"+AutoFile) }
