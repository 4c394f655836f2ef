package drill

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"walship/internal/pgconf"
	"walship/internal/pgdata"
	"walship/internal/pgrun"
	"walship/internal/testpg"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func owner(t *testing.T, dir string) pgrun.Owner {
	t.Helper()
	o, err := pgrun.OwnerOf(dir)
	must(t, err)
	return o
}

func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// What a killed drill has left is cleared away; a drill that lives, and what is
// no drill's, are not.
func TestClear(t *testing.T) {
	dir := testpg.Dir(t)
	o := owner(t, dir)
	living, err := NewPlace(dir, o)
	must(t, err)
	killed, err := NewPlace(dir, o)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(killed.Data(), "PG_VERSION"), nil, 0o400))
	must(t, killed.marker.Close()) // its lock goes with its process
	must(t, os.Mkdir(filepath.Join(dir, prefix+"0123"), 0o700))
	must(t, os.Mkdir(filepath.Join(dir, prefix+"theirs"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, prefix+"theirs", "letter"), nil, 0o600))
	must(t, os.Symlink("/", filepath.Join(dir, prefix+"link")))

	cleared, err := Clear(dir, o)
	must(t, err)
	slices.Sort(cleared)
	want := []string{killed.Path, filepath.Join(dir, prefix+"0123")}
	slices.Sort(want)
	if !slices.Equal(cleared, want) {
		t.Errorf("cleared %q, want %q", cleared, want)
	}
	must(t, living.Remove())
	if left := names(t, dir); !slices.Equal(left, []string{prefix + "link", prefix + "theirs"}) {
		t.Errorf("left %q", left)
	}
}

func TestPlace(t *testing.T) {
	dir := testpg.Dir(t)
	o := owner(t, dir)
	p, err := NewPlace(dir, o)
	must(t, err)
	for _, path := range []string{p.Path, p.Data(), p.Tablespaces(), p.Sockets} {
		info, err := os.Stat(path)
		must(t, err)
		if info.Mode().Perm() != 0o700 || owner(t, path).UID != o.UID {
			t.Errorf("%s: mode %o, owner %d", path, info.Mode().Perm(), owner(t, path).UID)
		}
	}
	must(t, p.Remove())

	// Too deep for the address of a socket.
	deep := filepath.Join(dir, strings.Repeat("deep", 30))
	must(t, os.Mkdir(deep, 0o700))
	must(t, testpg.Own(deep))
	p, err = NewPlace(deep, o)
	must(t, err)
	if filepath.Dir(p.Sockets) != sockets || len(p.Sockets) > pgrun.MaxSocketFolder {
		t.Errorf("socket in %s", p.Sockets)
	}
	must(t, p.marker.Close())
	if cleared, err := Clear(deep, o); err != nil || len(cleared) != 1 {
		t.Errorf("%q, %v", cleared, err)
	}
	if _, err := os.Stat(p.Sockets); !os.IsNotExist(err) {
		t.Errorf("%s: %v", p.Sockets, err)
	}
	if left := names(t, dir); len(left) != 1 {
		t.Errorf("left %q", left)
	}
	if _, err := NewPlace(filepath.Join(dir, "absent"), o); !os.IsNotExist(err) {
		t.Errorf("%v", err)
	}
}

var versions = []pgdata.Version{90000, 90100, 90200, 90300, 90400, 90500, 90600, 100000, 110000, 120000, 130000, 140000, 150000, 160000, 170000, 180000}

// A setting that its version does not know would keep the server from starting.
func TestConfKnowsItsVersion(t *testing.T) {
	settings := []pgdata.Setting{
		{Name: "restore_command", Value: `walship 'quoted' \ fetch`}, {Name: "recovery_target_action", Value: "pause"}, {Name: "recovery_target_name", Value: "here"},
		{Name: "recovery_end_command", Value: "rm -rf /"}, {Name: "archive_cleanup_command", Value: "rm -rf /"}, {Name: "archive_command", Value: "rm -rf /"},
		{Name: "max_prepared_transactions", Value: "7000"}, {Name: "shared_preload_libraries", Value: "lib"}, {Name: "primary_conninfo", Value: "host=production"},
	}
	for _, v := range versions {
		text := Conf{Place: &Place{Path: "/x", Sockets: "/x/s"}, Version: v, Jobs: 2, Preload: true}.text(settings)
		path := filepath.Join(t.TempDir(), "conf")
		must(t, os.WriteFile(path, []byte(text), 0o600))
		read, err := pgdata.ReadConf(path)
		must(t, err)
		for _, s := range read {
			if !pgconf.Knows(v, s.Name) {
				t.Errorf("%s does not know %s", v, s.Name)
			}
			if strings.Contains(s.Value, "rm ") || strings.Contains(s.Value, "production") {
				t.Errorf("%s: %s = %s", v, s.Name, s.Value)
			}
		}
		if got, _ := pgdata.Lookup(read, "max_prepared_transactions"); got.Value != "7000" {
			t.Errorf("%s: %+v", v, got)
		}
		restore, _ := pgdata.Lookup(read, "restore_command")
		action, _ := pgdata.Lookup(read, "recovery_target_action")
		if v >= 120000 && (restore.Value != settings[0].Value || action.Value != "promote") {
			t.Errorf("%s: %+v, %+v", v, restore, action)
		}
	}
}

func TestConfWrite(t *testing.T) {
	dir := testpg.Dir(t)
	p, err := NewPlace(dir, owner(t, dir))
	must(t, err)
	outside := filepath.Join(dir, "production.conf")
	must(t, os.WriteFile(outside, []byte("production"), 0o600))
	must(t, os.Symlink(outside, filepath.Join(p.Data(), "postgresql.conf")))
	recovery := "restore_command = 'walship fetch %f %p'\nRecovery_End_Command='rm'\n archive_cleanup_command 'rm'\npause_at_recovery_target = false\n"
	must(t, os.WriteFile(filepath.Join(p.Data(), "recovery.conf"), []byte(recovery), 0o600))
	c := Conf{Place: p, Owner: owner(t, dir), Version: 90600, Jobs: 1}
	must(t, c.Write(nil))
	must(t, c.Write(nil))
	if text, _ := os.ReadFile(outside); !bytes.Equal(text, []byte("production")) {
		t.Errorf("%q was written", outside)
	}
	text, err := os.ReadFile(filepath.Join(p.Data(), "recovery.conf"))
	must(t, err)
	if string(text) != "restore_command = 'walship fetch %f %p'\npause_at_recovery_target = false\n" {
		t.Errorf("%s", text)
	}
	if hba, _ := os.ReadFile(filepath.Join(p.Data(), "pg_hba.conf")); string(hba) != "local all all trust\n" {
		t.Errorf("%s", hba)
	}
}
