package restore

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"walship/internal/basebackup"
	"walship/internal/pgdata"
)

// golden is what a version gets, file by file.
func TestSettings(t *testing.T) {
	cet := time.FixedZone("", 3600)
	at := Target{Kind: AtTime, Time: time.Date(2026, 11, 22, 14, 5, 30, 0, cet)}
	const command = `/opt/it's here\walship fetch %f %p`
	quoted := `'/opt/it''s here\\walship fetch %f %p'`
	for _, c := range []struct {
		what    string
		version pgdata.Version
		o       Options
		conf    string // postgresql.conf
		files   map[string]string
		action  Action
	}{
		{"latest", 150000, Options{}, "", map[string]string{
			"postgresql.auto.conf": "archive_mode = 'off'\nrestore_command = " + quoted + "\nrecovery_target_timeline = '3'\n", "recovery.signal": ""}, Promote},
		{"latest, taking over", 120000, Options{TakeOver: true}, "", map[string]string{
			"postgresql.auto.conf": "restore_command = " + quoted + "\nrecovery_target_timeline = '3'\n", "recovery.signal": ""}, Promote},
		{"time", 150000, Options{Target: at}, "", map[string]string{
			"postgresql.auto.conf": "archive_mode = 'off'\nrestore_command = " + quoted + "\nrecovery_target_timeline = '3'\nrecovery_target_time = '2026-11-22 14:05:30+01:00'\nrecovery_target_inclusive = 'on'\nrecovery_target_action = 'pause'\n", "recovery.signal": ""}, Pause},
		{"leftovers", 150000, Options{Target: Target{Kind: AtLSN, LSN: 0x16B374D848, Exclusive: true}, Action: Shutdown},
			"recovery_target_name = 'old'\nrecovery_target_timeline = '2'\nArchive_Cleanup_Command = 'rm'\nrecovery_min_apply_delay = 1h\nport = 1\n", map[string]string{
				"postgresql.auto.conf": "archive_mode = 'off'\nrecovery_target_timeline = 'latest'\narchive_cleanup_command = ''\nrecovery_min_apply_delay = '0'\nrecovery_target_name = ''\nrestore_command = " + quoted +
					"\nrecovery_target_timeline = '3'\nrecovery_target_lsn = '16/B374D848'\nrecovery_target_inclusive = 'off'\nrecovery_target_action = 'shutdown'\n", "recovery.signal": ""}, Shutdown},
		{"cannot be looked at", 170000, Options{Target: Target{Kind: AtName, Name: "it's"}}, "hot_standby = off\n", map[string]string{
			"postgresql.auto.conf": "archive_mode = 'off'\nrestore_command = " + quoted + "\nrecovery_target_timeline = '3'\nrecovery_target_name = 'it''s'\nrecovery_target_action = 'promote'\n"}, Promote},
		{"shall be looked at", 170000, Options{Target: Target{Kind: Immediate}, Action: Pause}, "hot_standby = off\n", map[string]string{
			"postgresql.auto.conf": "archive_mode = 'off'\nhot_standby = 'on'\nrestore_command = " + quoted + "\nrecovery_target_timeline = '3'\nrecovery_target = 'immediate'\nrecovery_target_action = 'pause'\n"}, Pause},
		{"transaction", 120000, Options{Target: Target{Kind: AtXID, XID: 1<<32 + 700}}, "", map[string]string{
			"postgresql.auto.conf": "archive_mode = 'off'\nrestore_command = " + quoted + "\nrecovery_target_timeline = '3'\nrecovery_target_xid = '700'\nrecovery_target_inclusive = 'on'\nrecovery_target_action = 'pause'\n"}, Pause},
		{"standby", 150000, Options{Standby: true, Settings: []Setting{{"port", "5433"}}}, "primary_conninfo = 'host=a'\n", map[string]string{
			"postgresql.auto.conf": "archive_mode = 'off'\nhot_standby = 'on'\nport = '5433'\nrestore_command = " + quoted + "\nrecovery_target_timeline = 'latest'\n", "standby.signal": ""}, Promote},
		{"11", 110000, Options{Target: at}, "hot_standby = on\n", map[string]string{
			"postgresql.auto.conf": "archive_mode = 'off'\n", "recovery.conf": "restore_command = " + quoted + "\nrecovery_target_timeline = '3'\nrecovery_target_time = '2026-11-22 14:05:30+01:00'\nrecovery_target_inclusive = 'on'\nrecovery_target_action = 'pause'\n"}, Pause},
		{"9.6", 90600, Options{Target: at}, "", map[string]string{
			"recovery.conf": "restore_command = " + quoted + "\nrecovery_target_timeline = '3'\nrecovery_target_time = '2026-11-22 14:05:30+01:00'\nrecovery_target_inclusive = 'on'\nrecovery_target_action = 'promote'\n"}, Promote},
		{"9.4", 90400, Options{Target: at}, "hot_standby = 'on'\n", map[string]string{
			"postgresql.auto.conf": "archive_mode = 'off'\n", "recovery.conf": "restore_command = " + quoted + "\nrecovery_target_timeline = '3'\nrecovery_target_time = '2026-11-22 14:05:30+01:00'\nrecovery_target_inclusive = 'on'\npause_at_recovery_target = 'on'\n"}, Pause},
		{"9.3", 90300, Options{Target: at, Action: Promote}, "hot_standby = on\n", map[string]string{
			"postgresql.conf": "hot_standby = on\n\n# Added by walship restore.\narchive_mode = 'off'\n", "recovery.conf": "restore_command = " + quoted + "\nrecovery_target_timeline = '3'\nrecovery_target_time = '2026-11-22 14:05:30+01:00'\nrecovery_target_inclusive = 'on'\npause_at_recovery_target = 'off'\n"}, Promote},
		{"9.1 standby", 90100, Options{Standby: true}, "", map[string]string{
			"postgresql.conf": "\n\n# Added by walship restore.\narchive_mode = 'off'\nhot_standby = 'on'\n", "recovery.conf": "restore_command = " + quoted + "\nstandby_mode = 'on'\nrecovery_target_timeline = 'latest'\n"}, Promote},
		{"9.0", 90000, Options{Target: at}, "hot_standby = on\n", map[string]string{
			"recovery.conf": `restore_command = '/opt/it''s here\walship fetch %f %p'` + "\nrecovery_target_timeline = '3'\nrecovery_target_time = '2026-11-22 14:05:30+01:00'\nrecovery_target_inclusive = 'on'\n"}, Promote},
	} {
		c.o.Dir, c.o.RestoreCommand = t.TempDir(), command
		write(t, filepath.Join(c.o.Dir, mainConf), []byte(c.conf))
		p := &Plan{Options: c.o, Version: c.version, Timeline: 3}
		root, err := os.OpenRoot(c.o.Dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		var warns []string
		r := &Restorer{Warn: func(text string) { warns = append(warns, text) }}
		tr := &tree{Root: root}
		res := &Result{}
		if err := r.config(t.Context(), p, tr, res); err != nil || len(warns) > 0 {
			t.Errorf("%s: %v, %q", c.what, err, warns)
		}
		if err := (&folders{main: tr}).settle(p, res); err != nil || res.Action != c.action {
			t.Errorf("%s: action %s, %v", c.what, res.Action, err)
		}
		for _, name := range []string{"recovery.conf", "recovery.signal", "standby.signal"} {
			if _, wanted := c.files[name]; !wanted && name != "recovery.signal" {
				hasNo(t, c.o.Dir, name)
			}
		}
		for name, want := range c.files {
			got := content(t, c.o.Dir, name)
			for _, header := range []string{"# Do not edit this file manually!\n# It will be overwritten by the ALTER SYSTEM command.\n", "# Written by walship restore.\n"} {
				got = strings.TrimPrefix(got, header)
			}
			if got != want {
				t.Errorf("%s: %s is\n%swant\n%s", c.what, name, got, want)
			}
			if strings.HasSuffix(name, ".conf") && c.version > 90000 {
				settings, err := pgdata.ReadConf(filepath.Join(c.o.Dir, name))
				if set, ok := pgdata.Lookup(settings, "restore_command"); err != nil || ok && set.Value != command {
					t.Errorf("%s: %s: %q, %v", c.what, name, set.Value, err)
				}
			}
		}
	}
}

// ALTER SYSTEM's settings are kept, those of a recovery are not.
func TestAutoConf(t *testing.T) {
	old := "# Do not edit this file manually!\nwork_mem = '5MB'\nRECOVERY_TARGET_TIME='2020-01-01'\n  restore_command   'cp x'\nprimary_conninfo = 'host=a'\nrecovery_targets.mine = 'x'\narchive_mode = 'always'\nlast = 1"
	want := "# Do not edit this file manually!\nwork_mem = '5MB'\nprimary_conninfo = 'host=a'\nrecovery_targets.mine = 'x'\nlast = 1\narchive_mode = 'off'\n"
	if got := autoConf(old, []Setting{{"archive_mode", "off"}}); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// What a version cannot do is said before anything is written.
func TestSuits(t *testing.T) {
	for _, c := range []struct {
		version pgdata.Version
		o       Options
		says    string
	}{
		{90000, Options{Target: Target{Kind: AtName, Name: "x"}}, "restore points"},
		{90300, Options{Target: Target{Kind: Immediate}}, "as soon as it is consistent"},
		{90600, Options{Target: Target{Kind: AtLSN, LSN: 1}}, "at an LSN"},
		{90000, Options{Action: Pause}, "pause"},
		{90400, Options{Action: Shutdown}, "shut down"},
		{150000, Options{RestoreCommand: strings.Repeat("x", 980)}, "1,023 bytes"},
	} {
		p := &Plan{Options: c.o, Version: c.version, Manifest: basebackup.Manifest{End: noon}}
		if err := p.suits(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v", c, err)
		}
		p.Version = 160000
		if err := p.suits(); err != nil {
			t.Errorf("16: %+v: %v", c, err)
		}
	}
}

// A server that kept its configuration elsewhere: the copy has it in itself and
// leads nowhere else.
func TestOwnConf(t *testing.T) {
	s := newSite(t, fifteen)
	s.segments(1, 6, 7, noon)
	const etc = "/etc/postgresql/15/main/"
	s.backup(aBackup{start: "0/6000028", end: "0/6000100", without: []string{"postgresql.conf", "pg_hba.conf"}, config: map[string]string{
		etc + "postgresql.conf": "data_directory = '/var/lib/postgresql/15/main'\nhba_file = '" + etc + "pg_hba.conf'\nident_file='" + etc + "pg_ident.conf'\nexternal_pid_file = '/run/15.pid'\n" +
			"include_dir = 'conf.d'\ninclude_dir = 'none.d'\ninclude '/etc/postgresql/common.conf'\ninclude_if_exists = 'perhaps.conf'\n include = '/etc/gone.conf'\nport = 5433\nlog_directory = '/var/log/postgresql'\nsynchronous_standby_names = 'b'\n",
		etc + "pg_hba.conf":            "local all all peer\n",
		etc + "pg_ident.conf":          "# none\n",
		etc + "conf.d/mine.conf":       "work_mem = 7MB\nhot_standby = off\n",
		"/etc/postgresql/common.conf":  "maintenance_work_mem = 9MB\n",
		"/etc/postgresql/15/other.txt": "x",
	}})
	o := s.options()
	o.Target = Target{Kind: Immediate}
	_, res, err := s.restore(o)
	if err != nil {
		t.Fatal(err)
	}
	settings, err := pgdata.ReadConf(filepath.Join(o.Dir, mainConf))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"data_directory": o.Dir, "hba_file": o.Dir + "/pg_hba.conf", "ident_file": o.Dir + "/pg_ident.conf", "external_pid_file": "",
		"log_directory": "log", "synchronous_standby_names": "",
		"work_mem": "7MB", "maintenance_work_mem": "9MB", "port": "5433"} {
		if set, _ := pgdata.Lookup(settings, name); set.Value != want {
			t.Errorf("%s is %q, want %q", name, set.Value, want)
		}
	}
	if got := content(t, o.Dir, "pg_hba.conf"); got != "local all all peer\n" {
		t.Error(got)
	}
	if res.Action != Promote { // conf.d says so
		t.Error(res.Action)
	}
	if len(s.warns) != 2 || !strings.Contains(s.warns[0], "/etc/postgresql/15/main") || !strings.Contains(s.warns[1], "/etc/gone.conf") {
		t.Errorf("warned %q", s.warns)
	}
}
