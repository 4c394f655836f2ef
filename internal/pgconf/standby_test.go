package pgconf

import (
	"testing"

	"walship/internal/pgdata"
)

// What setup has written about a standby is read back; of what others have
// written nothing is.
func TestEarlier(t *testing.T) {
	for _, name := range []string{"db2", "a b", `it's`, `back\\slash`, "vm"} {
		follow := Standby{
			RestoreCommand: "walship fetch %f %p", Host: "192.0.2.6", Port: "5432", Role: "walship",
			Name: name, Slot: "db2", Cleanup: "walship prune --keep-from %r --yes",
		}
		for _, v := range versions(t) {
			follow.Version = v
			write := Render
			switch {
			case v == v90:
				continue // its grammar has no escapes
			case v < v12:
				write = RenderRecovery
			}
			text, err := write(v, follow.Settings())
			if err != nil {
				t.Fatal(err)
			}
			want := Standby{Name: name, Cleanup: follow.Cleanup}
			if v >= v94 {
				want.Slot = "db2"
			}
			if got := Earlier(text); got != want {
				t.Errorf("%s: %+v, want %+v", v, got, want)
			}
			if !Ours(text) {
				t.Errorf("%s: a file of setup's own is taken for another's", v)
			}
		}
	}
	for _, text := range []string{"", "primary_slot_name = db2\n", "standby_mode = 'on'\nprimary_conninfo = 'host=x'\n"} {
		if got := Earlier([]byte(text)); got != (Standby{}) {
			t.Errorf("%q: %+v", text, got)
		}
		if Ours([]byte(text)) {
			t.Errorf("%q is taken for walship's", text)
		}
	}
}

// Who is asked about what: a line of the administrator's is replaced only once it
// was agreed to, wherever it stands.
func TestAgainst(t *testing.T) {
	own := pgdata.Setting{Name: "restore_command", Value: "new", File: "/etc/walship.conf", Line: 3}
	other := pgdata.Setting{Name: "archive_timeout", Value: "60s", File: "/etc/walship.conf", Line: 4}
	mine := func(file, value string) pgdata.Setting {
		return pgdata.Setting{Name: "restore_command", Value: value, File: file, Line: 1}
	}
	conf, auto := mine("/etc/postgresql.conf", "old"), mine("/data/postgresql.auto.conf", "old")
	for _, c := range []struct {
		what              string
		settings          []pgdata.Setting
		asked, late, wins bool
	}{
		{"nothing is set", nil, false, false, false},
		{"the same is set", []pgdata.Setting{mine("/etc/postgresql.conf", "new")}, false, false, false},
		{"another, before there is an include", []pgdata.Setting{conf}, true, false, false},
		{"another, before the include, not agreed to", []pgdata.Setting{conf, other}, true, false, false},
		{"another, before the include, agreed to", []pgdata.Setting{conf, own, other}, false, false, false},
		{"another, behind the include", []pgdata.Setting{own, other, conf}, true, true, true},
		{"ALTER SYSTEM", []pgdata.Setting{own, other, auto}, true, false, true},
	} {
		got := Present{Settings: c.settings, Own: "/etc/walship.conf"}.Against([]Assignment{{Name: "restore_command", Value: "new"}})
		if asked := len(got) == 1; asked != c.asked || asked && (got[0].Late != c.late || got[0].Wins != c.wins) {
			t.Errorf("%s: %+v", c.what, got)
		}
	}
}
