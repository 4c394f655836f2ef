package pgconf

import (
	"strings"

	"walship/internal/pgdata"
)

// Standby is how a server follows another.
type Standby struct {
	Version        pgdata.Version
	RestoreCommand string
	Host, Port     string // of the primary
	Role           string
	Passfile       string // named in the connection string from 10 on
	Name           string // application_name: how the primary calls it
	Slot           string // "" for none
	Trigger        string // file that promotes it, "" for none
	Cleanup        string // archive_cleanup_command, "" for none
}

// ConnInfo is its primary_conninfo. It holds no password.
func (s Standby) ConnInfo() string {
	words := []string{"host=" + ConnWord(s.Host)}
	if s.Port != "" {
		words = append(words, "port="+ConnWord(s.Port))
	}
	words = append(words, "user="+ConnWord(s.Role))
	if s.Version >= v10 && s.Passfile != "" {
		words = append(words, "passfile="+ConnWord(s.Passfile))
	}
	if s.Name != "" {
		words = append(words, "application_name="+ConnWord(s.Name))
	}
	return strings.Join(words, " ")
}

// ConnWord writes a value for a connection string.
func ConnWord(s string) string {
	if s != "" && !strings.ContainsAny(s, ` '\`) {
		return s
	}
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// Settings are the settings that make it follow: of walship's own file from 12
// on, of recovery.conf before. The timeline is always said, as its default has
// changed at 12.
func (s Standby) Settings() []Assignment {
	recovery := s.Version < v12
	var list []Assignment
	add := func(name, value, why string) { list = append(list, Assignment{name, value, why}) }
	if recovery {
		add("standby_mode", "on", "")
	}
	add("restore_command", s.RestoreCommand, "what is no longer on the primary comes from the archive")
	add("recovery_target_timeline", "latest", "follow whoever is promoted")
	add("primary_conninfo", s.ConnInfo(), "")
	if s.Slot != "" && s.Version >= v94 {
		add("primary_slot_name", s.Slot, "")
	}
	name := "promote_trigger_file"
	if recovery {
		name = "trigger_file"
	}
	if s.Trigger != "" && (recovery || Knows(s.Version, name)) {
		add(name, s.Trigger, "touch this file to promote the standby")
	}
	if s.Cleanup != "" {
		add("archive_cleanup_command", s.Cleanup, "removes from the archive what this standby's restartpoints do not need")
	}
	return list
}

// Earlier reads back what setup has written about a standby, in its own file or in
// a recovery.conf: slot, name and cleanup. Of any other text nothing is taken.
func Earlier(text []byte) (s Standby) {
	for _, a := range parseOwn(text) {
		switch a.Name {
		case "primary_slot_name":
			s.Slot = a.Value
		case "archive_cleanup_command":
			s.Cleanup = a.Value
		case "primary_conninfo":
			s.Name = connValue(a.Value, "application_name")
		}
	}
	return s
}

// connValue returns the value of a key in a connection string that ConnInfo has
// written.
func connValue(conninfo, key string) string {
	_, rest, found := strings.Cut(" "+conninfo, " "+key+"=")
	if !found {
		return ""
	}
	var b strings.Builder
	quoted := strings.HasPrefix(rest, "'")
	for i := 0; i < len(rest); i++ {
		switch c := rest[i]; {
		case c == '\\' && i+1 < len(rest):
			i++
			b.WriteByte(rest[i])
		case c == '\'':
			if i > 0 {
				return b.String()
			}
		case c == ' ' && !quoted:
			return b.String()
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// Ours reports whether a recovery.conf was written by walship, setup or restore.
func Ours(text []byte) bool { return strings.HasPrefix(string(text), "# Written by walship ") }
