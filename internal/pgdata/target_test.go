package pgdata

import (
	"errors"
	"io/fs"
	"reflect"
	"strings"
	"testing"
)

func TestRecoveryTarget(t *testing.T) {
	type files = map[string]string
	latest, current := Target{Latest: true}, Target{Current: true, Timeline: 1}
	etc := write(t, files{
		"postgresql.conf": "include_dir 'conf.d'",
		"conf.d/a.conf":   "recovery_target_timeline = '5'",
	})
	for _, c := range []struct {
		version string
		files   files
		want    Target
		err     string
	}{
		{"11", nil, current, ""},
		{"11", files{"recovery.conf": "standby_mode = on"}, current, ""},
		{"11", files{"recovery.conf": "recovery_target_timeline = latest"}, latest, ""},
		{"11", files{"recovery.conf": "recovery_target_timeline = '3'"}, Target{Timeline: 3}, ""},
		{"11", files{"recovery.conf": "recovery_target_timeline = 0x1F"}, Target{Timeline: 31}, ""},
		{"11", files{"recovery.conf": "recovery_target_timeline = '010'"}, Target{Timeline: 8}, ""},
		{"11", files{"recovery.conf": "recovery_target_timeline = '3'\nrecovery_target_timeline = '4'"}, Target{Timeline: 4}, ""},
		{"11", files{"recovery.conf": "recovery_target_timeline = current"}, latest, ""}, // a word of 12
		{"9.6", files{"recovery.conf": "recovery_target_timeline = ''"}, latest, ""},
		{"9.6", files{"recovery.conf": "recovery_target_timeline = '99999999999999999999'"}, Target{}, "no timeline"},
		{"9.6", files{"recovery.conf": "recovery_target_timeline = "}, Target{}, "line 1"},
		{"9.6", files{"recovery.conf": "include 'none'"}, Target{}, "none"},
		{"9.6", files{"postgresql.conf": "recovery_target_timeline = 7"}, current, ""},
		{"9.0", files{"recovery.conf": "recovery_target_timeline = 'latest'"}, latest, ""},
		{"9.0", files{"recovery.conf": "recovery_target_timeline = 3"}, Target{}, "line 1"},

		{"12", files{"postgresql.conf": ""}, latest, ""},
		{"12", files{"postgresql.conf": "recovery_target_timeline = 'current'"}, current, ""},
		{"15", files{"postgresql.conf": "recovery_target_timeline = 3"}, Target{Timeline: 3}, ""},
		{"15", files{"postgresql.conf": "recovery_target_timeline = 3", "postgresql.auto.conf": "recovery_target_timeline = latest"}, latest, ""},
		{"15", files{"postgresql.conf": "recovery_target_timeline = zero"}, Target{}, "no timeline"},
		{"15", files{"postgresql.conf": "recovery_target_timeline = 0"}, Target{}, "no timeline"},
		{"15", files{"postgresql.conf": "x"}, Target{}, "line 1"},
		{"15", files{"postgresql.conf": "", "postgresql.auto.conf": "x"}, Target{}, "auto.conf, line 1"},
		{"15", files{"postgresql.conf": "", "recovery.conf": "recovery_target_timeline = 3"}, latest, ""},
		{"15", files{"postmaster.opts": `/bin/postgres "-c" "config_file=` + etc + `/postgresql.conf"`}, Target{Timeline: 5}, ""},
		{"15", files{"postmaster.opts": `/bin/postgres "--config-file=` + etc + "/postgresql.conf\"\n"}, Target{Timeline: 5}, ""},
		{"15", files{"postmaster.opts": `/bin/postgres "-D" "` + etc + `"`}, Target{Timeline: 5}, ""},
		{"15", files{"postgresql.conf": "recovery_target_timeline = 6", "postmaster.opts": `/bin/postgres "-D" "/elsewhere"`}, Target{Timeline: 6}, ""},
		{"15", files{"postgresql.conf": "recovery_target_timeline = 6", "postmaster.opts": `/bin/postgres "-D" "data"`}, Target{Timeline: 6}, ""},
		{"15", files{"cfg/main.conf": "recovery_target_timeline = 6", "postmaster.opts": `/bin/postgres "-c" "config_file=cfg/main.conf"`}, Target{Timeline: 6}, ""},
		{"15", files{"postgresql.conf": "", "postgresql.auto.conf": "recovery_target_timeline = 3",
			"postmaster.opts": `/bin/postgres "-i" "-p" "5433" "--recovery-target-timeline=0x10"`}, Target{Timeline: 16}, ""},
		{"15", files{"postgresql.conf": "", "postmaster.opts": `/bin/postgres "-lcrecovery_target_timeline=4"`}, Target{Timeline: 4}, ""},
		// The value of another option, and what follows the options.
		{"15", files{"postgresql.conf": "", "postmaster.opts": `/bin/postgres "-d" "-crecovery_target_timeline=4"`}, latest, ""},
		{"15", files{"postgresql.conf": "", "postmaster.opts": `/bin/postgres "" "-crecovery_target_timeline=4"`}, latest, ""},
		{"15", files{"postgresql.conf": "", "postmaster.opts": `/bin/postgres "x" "-crecovery_target_timeline=4"`}, latest, ""},
		{"15", files{"postgresql.conf": "", "postmaster.opts": `/bin/postgres`}, latest, ""},
		{"15", files{"postgresql.conf": "", "postmaster.opts/is-a": "folder"}, Target{}, "regular"},
	} {
		d, err := Open(dataDir(t, c.version, c.files))
		if err != nil {
			t.Fatal(err)
		}
		got, err := d.RecoveryTarget()
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s with %q: %+v, %v, want %+v", c.version, c.files, got, err, c.want)
		}
	}
}

func TestRecoveryTargetWithoutConf(t *testing.T) {
	d, err := Open(dataDir(t, "15", nil))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := d.RecoveryTarget(); !errors.Is(err, fs.ErrNotExist) || got != (Target{}) {
		t.Errorf("%+v, %v", got, err)
	}
}

// The current timeline is the one up to which recovery has come, if that is the
// later one.
func TestRecoveryTargetCurrent(t *testing.T) {
	d := &Dir{Path: t.TempDir(), Version: 110000, Control: Control{Timeline: 2, MinRecoveryTimeline: 3}}
	if got, err := d.RecoveryTarget(); err != nil || got != (Target{Current: true, Timeline: 3}) {
		t.Errorf("%+v, %v", got, err)
	}
	d.Control.MinRecoveryTimeline = 0
	if got, err := d.RecoveryTarget(); err != nil || got != (Target{Current: true, Timeline: 2}) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestStrtoul(t *testing.T) {
	for s, want := range map[string]uint32{
		"": 0, "x": 0, "7": 7, " \t7x": 7, "+7": 7, "-1": 1<<32 - 1, "007": 7, "08": 0, "0x": 0, "0xg": 0, "0XfF": 255,
		"4294967297": 1, "18446744073709551615": 1<<32 - 1,
	} {
		if got, ok := strtoul(s); !ok || got != want {
			t.Errorf("strtoul(%q) = %d, %v", s, got, ok)
		}
	}
	if got, ok := strtoul("18446744073709551616"); ok {
		t.Errorf("strtoul of 1<<64 = %d", got)
	}
}

func TestSplitOptions(t *testing.T) {
	for line, want := range map[string][]string{
		"/a b/postgres": nil,
		`/a b/postgres "-D" "/x y" "-c" "a=""b"` + "\n": {"-D", "/x y", "-c", `a=""b`},
		`p ""`: {""},
	} {
		if got := splitOptions(line); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %q", line, got)
		}
	}
}

func FuzzOptions(f *testing.F) {
	f.Add(`p "-D" "x" "-lc" "a-b=c"`)
	f.Fuzz(func(t *testing.T, line string) {
		for _, s := range parseOptions("o", splitOptions(line)).settings {
			if strings.Contains(s.Name, "-") || s.File != "o" {
				t.Fatalf("%+v", s)
			}
		}
	})
}

func FuzzRecoveryConf90(f *testing.F) {
	f.Add("standby_mode = 'on' # x\n#\n\na 'b''c'")
	f.Fuzz(func(t *testing.T, text string) {
		settings, err := parseConf90("c", text)
		if err != nil && settings != nil {
			t.Fatal(settings, err)
		}
		for _, s := range settings {
			if s.Line < 1 || strings.ContainsAny(s.Name, space+"'=") {
				t.Fatalf("%+v", s)
			}
		}
	})
}
