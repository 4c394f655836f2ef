package pgconf

import (
	"strconv"
	"strings"

	"walship/internal/pgdata"
)

// Primary is what a server that archives, and is followed, shall be.
type Primary struct {
	Version        pgdata.Version
	ArchiveCommand string
	ArchiveTimeout string // what archive_timeout gets if nobody has set it
	Standbys       int    // how many servers will follow it
	Remote         bool   // one of them on another machine
	Slots          int    // how many replication slots are asked for
	SlotKeep       string // max_slot_wal_keep_size, if nobody has set it
	Checksums      bool   // data pages have checksums
}

// Present is what there is without setup: the administrator's settings, and what
// setup itself has written before.
type Present struct {
	Settings []pgdata.Setting // of the server, as pgdata.Dir.Settings has them
	Own      string           // path of walship's own file; it need not exist
}

// Plan is what is to be written, and what stands against it.
type Plan struct {
	Set       []Assignment // for walship's own file
	Kept      []string     // what the administrator has set and is good as it is, as "name = value (file, line)"
	Conflicts []Conflict
	Notes     []string // what the administrator should know

	Asked []string // the settings that were asked about, whether they are set or not
}

// Conflict is a value of the administrator's that stands against what is wanted.
// It is replaced only if that is agreed to.
type Conflict struct {
	Want Assignment
	Have pgdata.Setting
	Wins bool // the administrator's line wins over walship's own file, wherever that is included
	Late bool // the same, but only because it stands behind the include
}

// administrators returns the last setting of that name which is not setup's own,
// and its place among all.
func (p Present) administrators(name string) (set pgdata.Setting, at int) {
	for i := len(p.Settings) - 1; i >= 0; i-- {
		if s := p.Settings[i]; s.Name == name && s.File != p.Own {
			return s, i
		}
	}
	return pgdata.Setting{}, -1
}

// own returns what setup has written of that name before, and where the last
// line of its file stands among all, -1 if it is not included.
func (p Present) own(name string) (value string, found bool, last int) {
	last = -1
	for i, s := range p.Settings {
		if s.File != p.Own {
			continue
		}
		last = i
		if s.Name == name {
			value, found = s.Value, true
		}
	}
	return value, found, last
}

// want plans one setting. good tells whether a value will do; byDefault is
// whether the server's own default will.
func (plan *Plan) want(p Present, v pgdata.Version, a Assignment, byDefault bool, good func(value string) bool) {
	if !Knows(v, a.Name) {
		return
	}
	plan.Asked = append(plan.Asked, a.Name)
	have, at := p.administrators(a.Name)
	_, written, last := p.own(a.Name)
	switch {
	case at < 0 && byDefault:
	case at < 0:
		plan.Set = append(plan.Set, a)
	case good(have.Value) && (!written || at > last):
		plan.Kept = append(plan.Kept, shown(have))
	default:
		fixed := strings.HasSuffix(have.File, "/postgresql.auto.conf") || strings.HasSuffix(have.File, "/postmaster.opts")
		late := !fixed && last >= 0 && at > last
		if written && !fixed && !late { // it was agreed to before
			plan.Set = append(plan.Set, a)
			return
		}
		plan.Conflicts = append(plan.Conflicts, Conflict{Want: a, Have: have, Wins: fixed || late, Late: late})
	}
}

// shown writes a setting for a message.
func shown(s pgdata.Setting) string {
	return s.Name + " = " + Quote(s.Value) + " (" + s.File + ", line " + strconv.Itoa(s.Line) + ")"
}

// Shown writes the administrator's setting for a message.
func (c Conflict) Shown() string { return shown(c.Have) }

// Plan works out what p needs beyond what is present.
func (p Primary) Plan(have Present) Plan {
	var plan Plan
	v := p.Version
	want := func(name, value, why string, byDefault bool, good func(string) bool) {
		plan.want(have, v, Assignment{name, value, why}, byDefault, good)
	}

	level := "replica"
	if v < v96 {
		level = "hot_standby"
	}
	want("wal_level", level, "WAL that a standby can follow", v >= v10, oneOf("hot_standby", "replica", "logical"))
	want("archive_mode", "on", "", false, func(s string) bool { return lower(s) == "always" || isOn(s) })
	want("archive_command", p.ArchiveCommand, "0 only when the segment is in the archive, on stable storage", false, oneOf(p.ArchiveCommand))
	// A library wins over the command in 15, and keeps the archiver from working
	// from 16 on.
	want("archive_library", "", "the command archives, not a library", true, oneOf(""))
	if set, at := have.administrators("archive_timeout"); at >= 0 {
		plan.Kept = append(plan.Kept, shown(set))
		if zero(set.Value) {
			plan.Notes = append(plan.Notes, "archive_timeout is 0: on a quiet server nothing is archived until a segment is full, however long that takes; "+p.ArchiveTimeout+" would bound it")
		}
	} else {
		want("archive_timeout", p.ArchiveTimeout, "without it a quiet server archives nothing until a segment is full", false, oneOf())
	}

	if p.Standbys > 0 {
		senders := p.Standbys + 3 // a base backup takes two, one is spare
		want("max_wal_senders", strconv.Itoa(max(10, senders)), "connections for standbys and base backups", v >= v10 && senders <= 10, atLeast(min(senders, p.Standbys+1)))
		want("hot_standby", "on", "a standby, which has a copy of this file, answers queries", v >= v10, isOn)
		if p.Remote {
			want("listen_addresses", "*", "standbys connect from other machines; pg_hba.conf says who may", false, remote)
		}
		if v >= v95 && !p.Checksums {
			want("wal_log_hints", "on", "lets pg_rewind make a standby of this server after a failover", false, isOn)
		}
	}
	if p.Slots > 0 {
		want("max_replication_slots", strconv.Itoa(max(10, p.Slots)), "", v >= v10, atLeast(p.Slots))
		want("max_slot_wal_keep_size", p.SlotKeep, "what an absent standby's slot may keep at most; the archive has the rest", false, func(s string) bool { return true })
	}
	return plan
}

// Agree takes over the conflicts: their values are written, though the
// administrator has others. What wins over walship's file is not mended by that.
func (plan *Plan) Agree() {
	for _, c := range plan.Conflicts {
		plan.Set = append(plan.Set, c.Want)
	}
}

func oneOf(values ...string) func(string) bool {
	return func(s string) bool {
		for _, v := range values {
			if s == v {
				return true
			}
		}
		return false
	}
}

func atLeast(n int) func(string) bool {
	return func(s string) bool {
		v, err := strconv.Atoi(strings.TrimSpace(s))
		return err == nil && v >= n
	}
}

// isOn reads a boolean as the server does.
func isOn(s string) bool {
	s = lower(s)
	return s == "on" || s == "1" || s != "" && (strings.HasPrefix("true", s) || strings.HasPrefix("yes", s))
}

// zero reports whether a number, with or without a unit, is 0.
func zero(s string) bool {
	n, err := strconv.Atoi(strings.TrimRight(strings.TrimSpace(s), " abcdefghijklmnopqrstuvwxyz"))
	return err == nil && n == 0
}

// remote reports whether listen_addresses lets other machines connect.
func remote(s string) bool {
	for _, a := range strings.Split(s, ",") {
		switch a = lower(strings.TrimSpace(a)); {
		case a == "", a == "localhost", a == "::1", strings.HasPrefix(a, "127."):
		default:
			return true
		}
	}
	return false
}

func lower(s string) string { return strings.ToLower(s) }
