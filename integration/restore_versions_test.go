//go:build versions

package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"walship/internal/testpg"
)

// Backup and restore on the servers that scripts/pg-versions installs: to a
// time, an LSN and a restore point, to the end, and as a standby; with a
// tablespace, and with settings left over from another recovery.
func TestRestoreVersions(t *testing.T) {
	for _, major := range []int{10, 12, 14, 16, 17, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			primary := newPrimary(t, s, testpg.Options{Major: major})
			space := newDir(t)
			primary.Query("create tablespace space location '" + space + "'; create table far tablespace space as select generate_series(1, 1000) n")
			if major >= 12 {
				primary.SetConf(map[string]string{"recovery_target_name": "left over", "recovery_min_apply_delay": "1h", "archive_cleanup_command": "false"})
				primary.Query("alter system set recovery_target_xid = '1'")
			}
			s.backup(primary)
			a := versionsMoment(t, primary, "a")
			b := versionsMoment(t, primary, "b")
			primary.Archive(soon)
			must(t, primary.Stop(testpg.Fast))
			for _, c := range []struct {
				args []string
				want string
			}{
				{[]string{"--time", a.time}, a.rows}, {[]string{"--lsn", a.lsn}, a.rows}, {[]string{"--name", "a"}, a.rows}, {[]string{"--xid", b.xid, "--exclusive"}, a.rows},
				{[]string{"--latest"}, b.rows}, {[]string{"--immediate", "--target-action", "promote"}, ""}, {[]string{"--standby"}, b.rows},
			} {
				to := filepath.Join(testpg.Dir(t), "space")
				dir, r := s.restore(append(c.args, "--tablespace-mapping", space+"="+to)...)
				if r.code != 0 {
					t.Fatal(r)
				}
				must(t, testpg.Own(filepath.Dir(to)))
				copied := testpg.Adopt(t, dir)
				must(t, copied.Start())
				if c.want != "" {
					waitContents(t, copied, c.want)
				} else {
					must(t, copied.WaitPrimary(soon))
				}
				if got := copied.Query("select current_setting('archive_mode'), (select count(*) from far), pg_tablespace_location(oid) from pg_tablespace where spcname = 'space'"); got != "off|1000|"+to {
					t.Errorf("%q: %s", c.args, got)
				}
				must(t, copied.Stop(testpg.Immediate))
				must(t, os.RemoveAll(dir))
			}
		})
	}
}

// versionsMoment is anInsert for servers from 10 on.
func versionsMoment(t testing.TB, c *testpg.Cluster, name string) moment {
	t.Helper()
	m := moment{name: name}
	m.xid = c.Query("insert into rows select count(*) + 1, now() from rows returning txid_current()")
	m.lsn = c.Query("select pg_current_wal_insert_lsn()")
	m.time = c.Query("select clock_timestamp()")
	c.Query("select pg_sleep(0.01); select pg_create_restore_point('" + name + "')")
	var err error
	m.rows, err = contents(c)
	must(t, err)
	return m
}
