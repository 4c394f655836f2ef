package pgconf

import (
	"slices"
	"strings"

	"walship/internal/pgdata"
)

// AutoFile is the file that ALTER SYSTEM writes. Its settings win over those of
// postgresql.conf and of what that includes.
const AutoFile = "postgresql.auto.conf"

// Against returns the administrator's settings that stand against list, which is
// going into walship's own file: those that win over it, and those that it would
// win over and that nobody has agreed to replace yet.
func (p Present) Against(list []Assignment) (conflicts []Conflict) {
	for _, a := range list {
		set, at := p.administrators(a.Name)
		if at < 0 || set.Value == a.Value {
			continue
		}
		_, written, last := p.own(a.Name)
		late := !InAuto(set) && last >= 0 && at > last
		if !written || InAuto(set) || late { // otherwise it was agreed to before
			conflicts = append(conflicts, Conflict{Want: a, Have: set, Wins: InAuto(set) || late, Late: late})
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
