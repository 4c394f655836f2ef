package pgconf

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"walship/internal/pgdata"
)

var update = flag.Bool("update", false, "write the golden files anew")

// versions are all that there are from 9.0 to 18.
func versions(t *testing.T) (all []pgdata.Version) {
	t.Helper()
	for _, name := range strings.Fields("9.0 9.1 9.2 9.3 9.4 9.5 9.6 10 11 12 13 14 15 16 17 18") {
		v, err := pgdata.ParseVersion(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	return all
}

// written is everything that setup writes for a version, on a server whose
// administrator has set nothing.
func written(t *testing.T, v pgdata.Version) string {
	t.Helper()
	slots := 0
	if v >= 90400 {
		slots = 1
	}
	plan := Primary{
		Version: v, ArchiveCommand: "/usr/local/bin/walship --config /etc/walship/walship.toml push %p %f", ArchiveTimeout: "60s",
		Standbys: 1, Remote: true, Slots: slots, SlotKeep: "16GB",
	}.Plan(Present{Own: "/etc/postgresql/walship.conf"})
	follow := Standby{
		Version: v, RestoreCommand: "/usr/local/bin/walship --config /etc/walship/walship.toml fetch %f %p",
		Host: "192.0.2.6", Port: "5432", Role: "walship", Passfile: "/etc/walship/pgpass", Name: "db2", Slot: "db2",
		Trigger: "/var/lib/postgresql/data/walship.promote",
		Cleanup: "/usr/local/bin/walship --config /etc/walship/walship.toml prune --keep-from %r --yes",
	}
	own, err := Render(v, Merge(nil, plan.Set, plan.Asked))
	if err != nil {
		t.Fatal(err)
	}
	out := "== primary: walship.conf\n" + string(own)
	access := Access{Role: "walship", Address: "192.0.2.7"}
	out += "\n== primary: pg_hba.conf\n" + access.Line(v) + "\n"
	if v >= v12 {
		own, err = Render(v, Merge(own, follow.Settings(), StandbyNames()))
		out += "\n== standby: standby.signal, and walship.conf\n" + string(own)
	} else {
		var recovery []byte
		recovery, err = RenderRecovery(v, follow.Settings())
		out += "\n== standby: recovery.conf\n" + string(recovery)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// What setup writes for each version is what the files in testdata say.
func TestGolden(t *testing.T) {
	for _, v := range versions(t) {
		got := written(t, v)
		path := filepath.Join("testdata", "golden", v.String())
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s:\n%s\nwant\n%s", v, got, want)
		}
	}
}

// assigned finds the settings in what is written.
func assigned(text, section string) map[string]string {
	_, text, _ = strings.Cut(text, "== "+section)
	text, _, _ = strings.Cut(text, "\n== ")
	set := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " = "); ok && !strings.HasPrefix(name, "#") {
			set[name] = strings.Trim(value, "'")
		}
	}
	return set
}

// What the golden files hold fits what is known of each version, and no server
// gets a setting that it does not list itself.
func TestWrittenFitsVersions(t *testing.T) {
	for _, v := range versions(t) {
		text := written(t, v)
		conf := assigned(text, "primary: walship.conf")
		standby := assigned(text, "standby: ")
		check := func(what string, ok bool) {
			t.Helper()
			if !ok {
				t.Errorf("%s: %s:\n%s", v, what, text)
			}
		}
		for name := range conf {
			check(name+" is not known", Knows(v, name))
		}
		for name := range standby {
			check(name+" is not known", Knows(v, name) || v < v12 && recoveryNames[name] != 0 && v >= recoveryNames[name])
		}
		level := map[bool]string{true: "hot_standby", false: "replica"}[v < v96]
		check("wal_level", v >= v10 && conf["wal_level"] == "" || conf["wal_level"] == level)
		check("archive_mode", conf["archive_mode"] == "on")
		check("archive_timeout", conf["archive_timeout"] == "60s")
		check("max_wal_senders", (conf["max_wal_senders"] == "10") == (v < v10))
		check("hot_standby", (conf["hot_standby"] == "on") == (v < v10))
		check("slots", (conf["max_replication_slots"] != "") == (v >= v94 && v < v10))
		check("slot limit", (conf["max_slot_wal_keep_size"] != "") == (v >= 130000))
		check("wal_log_hints", (conf["wal_log_hints"] == "on") == (v >= v95))
		check("signal or recovery.conf", strings.Contains(text, "standby.signal") == (v >= v12))
		check("standby_mode", (standby["standby_mode"] == "on") == (v < v12))
		check("timeline", standby["recovery_target_timeline"] == "latest")
		check("trigger", (standby["trigger_file"] != "") == (v < v12))
		check("promote_trigger_file", (standby["promote_trigger_file"] != "") == (v >= v12 && v < 160000))
		check("cleanup", strings.HasSuffix(standby["archive_cleanup_command"], "prune --keep-from %r --yes"))
		check("slot name", (standby["primary_slot_name"] != "") == (v >= v94))
		check("passfile", strings.Contains(standby["primary_conninfo"], "passfile=") == (v >= v10))
		check("no password", !strings.Contains(text, "password="))
		check("method", strings.Contains(text, "scram-sha-256") == (v >= v10))
	}
}

// A setting that a version does not know is an error, never a line.
func TestRenderRefusesUnknown(t *testing.T) {
	for _, c := range []struct {
		name        string
		first, last pgdata.Version // that know it
	}{
		{"archive_library", 150000, 180000}, {"wal_keep_segments", 90000, 120000}, {"promote_trigger_file", 120000, 150000},
		{"max_slot_wal_keep_size", 130000, 180000}, {"restore_command", 120000, 180000}, {"no_such_setting", 1, 0},
	} {
		for _, v := range versions(t) {
			_, err := Render(v, []Assignment{{Name: c.name, Value: "x"}})
			if known := c.first <= v && v <= c.last; known != (err == nil) {
				t.Errorf("%s in %s: %v", c.name, v, err)
			}
		}
	}
	if _, err := RenderRecovery(v90, []Assignment{{Name: "primary_slot_name", Value: "x"}}); err == nil {
		t.Error("9.0's recovery.conf gets a slot")
	}
	if _, err := RenderRecovery(v12, []Assignment{{Name: "restore_command", Value: "x"}}); err == nil {
		t.Error("12 gets a recovery.conf")
	}
}

func TestNeedsRestart(t *testing.T) {
	for _, c := range []struct {
		name string
		v    pgdata.Version
		want bool
	}{
		{"archive_mode", v90, true}, {"archive_mode", v18, true}, {"archive_command", v18, false}, {"wal_log_hints", v95, true},
		{"restore_command", 130000, true}, {"restore_command", 140000, false}, {"primary_conninfo", 120000, true}, {"primary_conninfo", 130000, false},
	} {
		if got := NeedsRestart(c.v, c.name); got != c.want {
			t.Errorf("%s in %s: %v", c.name, c.v, got)
		}
	}
}

// Values come back as they were written, by walship's own reader and by the one
// that reads as the server does.
func TestQuoteRoundTrip(t *testing.T) {
	dir := t.TempDir()
	for i, value := range []string{"", "on", "it's", `back\slash`, "a 'b' \\ c", "tab\there", "line\nend", "ünïcode", "%p %f", "#no comment"} {
		text, err := Render(v18, []Assignment{{Name: "archive_command", Value: value, Why: "why"}})
		if err != nil {
			t.Fatal(err)
		}
		if list := parseOwn(text); len(list) != 1 || list[0] != (Assignment{"archive_command", value, "why"}) {
			t.Errorf("%q: %q", value, list)
		}
		path := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		settings, err := pgdata.ReadConf(path)
		if err != nil || len(settings) != 1 || settings[0].Value != value {
			t.Errorf("%q is read as %v %v", value, settings, err)
		}
	}
}

// Merge keeps what was not asked about, drops what is not wanted any more, and
// comes to rest at once.
func TestMerge(t *testing.T) {
	old, err := Render(v18, []Assignment{{Name: "archive_mode", Value: "on"}, {Name: "listen_addresses", Value: "*", Why: "w"}, {Name: "restore_command", Value: "r"}})
	if err != nil {
		t.Fatal(err)
	}
	got := Merge(old, []Assignment{{Name: "archive_command", Value: "c"}}, []string{"archive_mode", "archive_command"})
	want := []Assignment{{"archive_command", "c", ""}, {"listen_addresses", "*", "w"}, {"restore_command", "r", ""}}
	if !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	again, err := Render(v18, got)
	if err != nil {
		t.Fatal(err)
	}
	if twice := Merge(again, []Assignment{{Name: "archive_command", Value: "c"}}, []string{"archive_mode", "archive_command"}); !slices.Equal(twice, want) {
		t.Errorf("again: %v", twice)
	}
}
