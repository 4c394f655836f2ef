package pgdata

import (
	"os"
	"path/filepath"
	"testing"
)

func TestDetectMode(t *testing.T) {
	type files = map[string]string
	for _, c := range []struct {
		version string
		files   files
		want    Mode
	}{
		{"12", nil, Ending},
		{"12", files{"standby.signal": ""}, Standby},
		{"18", files{"standby.signal": ""}, Standby},
		{"15", files{"recovery.signal": ""}, ArchiveRecovery},
		{"15", files{"recovery.signal": "", "standby.signal": ""}, Standby},
		{"15", files{"recovery.conf": "standby_mode = on"}, Standby}, // which 12 and later refuse; but there is no other sign
		{"15", files{"recovery.done": "", "standby.signal.old": ""}, Ending},

		{"11", nil, Ending},
		{"11", files{"standby.signal": "", "recovery.signal": ""}, Standby}, // which are for 12 and later; but there is no other sign
		{"11", files{"recovery.done": "standby_mode = on"}, Ending},
		{"11", files{"recovery.conf": ""}, ArchiveRecovery},
		{"11", files{"recovery.conf": "standby_mode = on"}, Standby},
		{"9.1", files{"recovery.conf": "Standby_Mode 'TR' # x"}, Standby},
		{"9.6", files{"recovery.conf": "standby_mode = on\nstandby_mode = off\n"}, ArchiveRecovery},
		{"9.6", files{"recovery.conf": "#standby_mode = on\n"}, ArchiveRecovery},
		{"9.6", files{"recovery.conf": "standby_mode = maybe"}, ArchiveRecovery},
		{"9.6", files{"recovery.conf": "standby_mode = on\n= broken"}, ArchiveRecovery},
		{"9.6", files{"recovery.conf": "include 'more'", "more": "standby_mode = on"}, Standby},
		{"9.6", files{"recovery.conf": "standby_mode = on\ninclude 'none'"}, ArchiveRecovery},
		{"9.6", files{"recovery.conf/is-a": "folder"}, ArchiveRecovery},

		{"9.0", files{"recovery.conf": "restore_command = 'cp \"a\\b\" ''c'''\nstandby_mode = 'on'\n"}, Standby},
		{"9.0", files{"recovery.conf": "\n # x\n standby_mode'1'# x"}, Standby},
		{"9.0", files{"recovery.conf": "standby_mode = 'off'"}, ArchiveRecovery},
		{"9.0", files{"recovery.conf": "standby_mode = on"}, ArchiveRecovery}, // 9.0 refuses it
		{"9.0", files{"recovery.conf": "standby_mode = 'on' x"}, ArchiveRecovery},
		{"9.0", files{"recovery.conf": "standby_mode = 'on"}, ArchiveRecovery},

		{"odd", nil, Ending},
		{"odd", files{"standby.signal": ""}, Standby},
		{"odd", files{"standby.signal": "", "recovery.signal": ""}, Standby},
		{"odd", files{"recovery.signal": ""}, ArchiveRecovery},
		{"odd", files{"recovery.conf": "standby_mode = on"}, Standby},
		{"odd", files{"recovery.conf": "standby_mode = 'on'"}, Standby},
		{"odd", files{"recovery.conf": ""}, ArchiveRecovery},
		{"odd", files{"recovery.conf": "", "standby.signal": ""}, ArchiveRecovery},
		{"odd", files{"recovery.conf": "standby_mode = on", "recovery.signal": ""}, ArchiveRecovery},
	} {
		dir := dataDir(t, c.version, c.files)
		if got := DetectMode(dir); got != c.want {
			t.Errorf("%s with %q: %s, want %s", c.version, c.files, got, c.want)
		}
		if c.version != "odd" {
			continue
		}
		if err := os.Remove(filepath.Join(dir, "PG_VERSION")); err != nil {
			t.Fatal(err)
		}
		if got := DetectMode(dir); got != c.want {
			t.Errorf("no PG_VERSION, with %q: %s, want %s", c.files, got, c.want)
		}
	}
}

func TestDetectModeByHand(t *testing.T) {
	for _, dir := range []string{
		t.TempDir(),
		"/nonexistent",
		"",
		write(t, map[string]string{"PG_VERSION": "15\n"}), // as a database's folder
	} {
		if got := DetectMode(dir); got != ByHand {
			t.Errorf("%q: %s", dir, got)
		}
	}
}

// A signal file that cannot be looked at counts as the strict one.
func TestDetectModeUnsure(t *testing.T) {
	for signal, want := range map[string]Mode{"standby.signal": ArchiveRecovery, "recovery.signal": ArchiveRecovery} {
		dir := dataDir(t, "15", nil)
		// A link to itself: neither there nor absent.
		if err := os.Symlink(signal, filepath.Join(dir, signal)); err != nil {
			t.Fatal(err)
		}
		if got := DetectMode(dir); got != want {
			t.Errorf("%s: %s, want %s", signal, got, want)
		}
	}
	dir := dataDir(t, "11", nil)
	if err := os.Symlink(recoveryConf, filepath.Join(dir, recoveryConf)); err != nil {
		t.Fatal(err)
	}
	if got := DetectMode(dir); got != ArchiveRecovery {
		t.Errorf("recovery.conf: %s", got)
	}
}

func TestModeString(t *testing.T) {
	for m, want := range map[Mode]string{ByHand: "by hand", Ending: "ending", Standby: "standby", ArchiveRecovery: "archive recovery"} {
		if m.String() != want {
			t.Errorf("%d: %s", m, m)
		}
	}
}
