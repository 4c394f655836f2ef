package pgconf

import (
	"slices"
	"strings"
)

// ownOrder is the order of the settings in walship's own file. setup primary
// writes those up to max_slot_wal_keep_size, setup standby the others.
var ownOrder = []string{
	"wal_level", "archive_mode", "archive_command", "archive_library", "archive_timeout", "max_wal_senders", "hot_standby",
	"listen_addresses", "wal_log_hints", "max_replication_slots", "max_slot_wal_keep_size",
	"port",
	"restore_command", "recovery_target_timeline", "primary_conninfo", "primary_slot_name",
	"promote_trigger_file", "archive_cleanup_command",
}

// StandbyNames are the settings of a server that follows another.
func StandbyNames() []string {
	return slices.Clone(ownOrder[slices.Index(ownOrder, "restore_command"):])
}

// Merge returns what walship's own file shall hold: set, and from its old text
// what this run has not asked about. asked are the settings that it has, whether
// they are in set or not.
func Merge(old []byte, set []Assignment, asked []string) []Assignment {
	list := slices.Clone(set)
	for _, a := range parseOwn(old) {
		if !slices.Contains(asked, a.Name) {
			list = append(list, a)
		}
	}
	slices.SortStableFunc(list, func(a, b Assignment) int {
		return slices.Index(ownOrder, a.Name) - slices.Index(ownOrder, b.Name)
	})
	return list
}

// parseOwn reads a file that Render has written.
func parseOwn(text []byte) (list []Assignment) {
	why := ""
	for _, line := range lines(text) {
		line = strings.TrimRight(line, "\r\n")
		name, value, found := strings.Cut(line, " = ")
		switch comment, isComment := strings.CutPrefix(line, "# "); {
		case isComment:
			why = comment
			continue
		case found && slices.Contains(ownOrder, name) && len(value) >= 2 && strings.HasPrefix(value, "'") && strings.HasSuffix(value, "'"):
			list = append(list, Assignment{name, unquote(value), why})
		}
		why = ""
	}
	return list
}

// unquote is the reverse of Quote.
func unquote(s string) string {
	var b strings.Builder
	s = s[1 : len(s)-1]
	for i := 0; i < len(s); i++ {
		if (s[i] == '\'' || s[i] == '\\') && i+1 < len(s) {
			i++
			switch {
			case s[i-1] == '\\' && s[i] == 'n':
				b.WriteByte('\n')
				continue
			case s[i-1] == '\\' && s[i] == 'r':
				b.WriteByte('\r')
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
