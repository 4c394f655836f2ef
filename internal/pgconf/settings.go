package pgconf

import (
	_ "embed"
	"fmt"
	"strings"

	"walship/internal/pgdata"
)

// settingsTable holds each setting of the servers from 9.0 to 18, as they
// themselves list them: name, first and last version, context. A setting whose
// context has changed has several lines.
//
//go:embed settings.tsv
var settingsTable string

// Versions at which what setup writes changes.
const (
	v90 pgdata.Version = 90000  // no role can replicate but a superuser; recovery.conf has a grammar of its own
	v92 pgdata.Version = 90200  // settings with a dot in the name
	v94 pgdata.Version = 90400  // slots, ALTER SYSTEM
	v95 pgdata.Version = 90500  // pg_rewind
	v96 pgdata.Version = 90600  // wal_level replica
	v10 pgdata.Version = 100000 // SCRAM, passfile in a connection string, usable defaults
	v12 pgdata.Version = 120000 // signal files instead of recovery.conf
	v18 pgdata.Version = 180000 // the newest one that the table tells of
)

// row finds the line of the table for a setting of that version. A version after
// the newest is taken for that one.
func row(v pgdata.Version, name string) (context string, found bool) {
	v = min(v, v18)
	for line := range strings.Lines(settingsTable) {
		field := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(field) != 4 || !strings.EqualFold(field[0], name) {
			continue
		}
		first, err1 := pgdata.ParseVersion(field[1])
		last, err2 := pgdata.ParseVersion(field[2])
		if err1 == nil && err2 == nil && first <= v && v <= last {
			return field[3], true
		}
	}
	return "", false
}

// Knows reports whether a server of that version has the setting: one that it
// does not know keeps it from starting. Settings of recovery.conf are no
// settings of the server before 12.
func Knows(v pgdata.Version, name string) bool {
	_, found := row(v, name)
	return found
}

// NeedsRestart reports whether a change of the setting counts only after a
// restart of the server.
func NeedsRestart(v pgdata.Version, name string) bool {
	context, _ := row(v, name)
	return context == "postmaster"
}

// recoveryNames are the settings of recovery.conf that setup may write, with the
// first version that knows them. They hold up to 11.
var recoveryNames = map[string]pgdata.Version{
	"standby_mode":             v90,
	"primary_conninfo":         v90,
	"primary_slot_name":        v94,
	"restore_command":          v90,
	"archive_cleanup_command":  v90,
	"recovery_target_timeline": v90,
	"trigger_file":             v90,
}

// Assignment is a line that setup writes.
type Assignment struct {
	Name  string
	Value string
	Why   string // a comment, one line
}

// Include is the line that makes postgresql.conf read walship's own file.
const Include = "include 'walship.conf'"

// OwnFile is the name of walship's own file, which lies beside postgresql.conf.
const OwnFile = "walship.conf"

// Render writes walship's own file for a server of that version. A setting that
// the version does not know is an error, not a line.
func Render(v pgdata.Version, list []Assignment) ([]byte, error) {
	var b strings.Builder
	b.WriteString("# Written by walship setup, which writes it anew when it runs again. What stands\n" +
		"# behind the include of this file in postgresql.conf wins over what is in here.\n")
	for _, a := range list {
		if !Knows(v, a.Name) {
			return nil, fmt.Errorf("PostgreSQL %s has no setting %s", v, a.Name)
		}
		b.WriteString("\n")
		if a.Why != "" {
			b.WriteString("# " + a.Why + "\n")
		}
		b.WriteString(a.Name + " = " + Quote(a.Value) + "\n")
	}
	return []byte(b.String()), nil
}

// RenderRecovery writes a recovery.conf for 9.0 to 11, in the grammar that 9.0
// has: every value is quoted, and a backslash is itself there.
func RenderRecovery(v pgdata.Version, list []Assignment) ([]byte, error) {
	var b strings.Builder
	b.WriteString("# Written by walship setup. The server renames this file when it is promoted.\n")
	for _, a := range list {
		first, known := recoveryNames[a.Name]
		if !known || v < first || v >= v12 {
			return nil, fmt.Errorf("the recovery.conf of PostgreSQL %s has no setting %s", v, a.Name)
		}
		b.WriteString("\n")
		if a.Why != "" {
			b.WriteString("# " + a.Why + "\n")
		}
		value := Quote(a.Value)
		if v == v90 {
			value = "'" + strings.ReplaceAll(a.Value, "'", "''") + "'"
		}
		b.WriteString(a.Name + " = " + value + "\n")
	}
	return []byte(b.String()), nil
}

// Quote writes a value for postgresql.conf, for the recovery.conf of 9.1 to 11
// too.
func Quote(s string) string {
	return "'" + strings.NewReplacer(`'`, `''`, `\`, `\\`, "\n", `\n`, "\r", `\r`).Replace(s) + "'"
}

// AddInclude returns the text of a postgresql.conf with the include of walship's
// own file at its end, where it wins over what stands before. last moves one that
// is there already behind the lines that follow it. Every other byte stays; the
// line ends as the others do.
func AddInclude(text []byte, last bool) []byte {
	all := lines(text)
	for i, line := range all {
		if !isInclude(line) {
			continue
		}
		if !last {
			return text
		}
		all[i] = ""
	}
	out := strings.Join(all, "")
	end := "\n"
	if len(all) > 0 && strings.HasSuffix(all[0], "\r\n") {
		end = "\r\n"
	}
	if out != "" && !strings.HasSuffix(out, "\n") {
		out += end
	}
	return []byte(out + Include + end)
}

// isInclude reports whether a line is the include, however it is spaced.
func isInclude(line string) bool {
	line, _, _ = strings.Cut(strings.TrimSpace(line), "#")
	word := strings.Fields(strings.ReplaceAll(line, "=", " "))
	return len(word) == 2 && strings.EqualFold(word[0], "include") && strings.Trim(word[1], "'") == OwnFile
}
