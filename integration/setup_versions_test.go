//go:build versions

package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walship/internal/testpg"
)

// The whole recipe on each version: what setup writes is accepted by its server.
func TestVersionsRecipe(t *testing.T) {
	for _, major := range []int{10, 12, 14, 16, 17, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			theRecipe(t, testpg.Options{Major: major}, false)
		})
	}
}

// split is a cluster whose configuration lies apart from its data.
type split struct {
	*testpg.Cluster
	etc string
}

// ctl starts or restarts it as Debian does, with the configuration named.
func (c split) ctl(t *testing.T, verb string) {
	t.Helper()
	_, err := c.Run("pg_ctl", "-D", c.Data, "-w", "-m", "fast", "-o", "-c config_file="+c.etc+"/postgresql.conf", "-l", c.LogFile, verb)
	must(t, err)
}

// Two clusters of two versions under one user, in Debian's layout: each gets the
// settings of its own version into its own folder, and nothing of the other's
// changes.
func TestVersionsSplit(t *testing.T) {
	a := newAdmin(t)
	archive := filepath.Join(testpg.Dir(t), "archive")
	must(t, os.Mkdir(archive, 0o700))
	must(t, testpg.Own(archive))
	root := testpg.Dir(t)
	a.env = []string{"PG_CLUSTER_CONF_ROOT=" + root}
	files := func(c split) map[string]string { return fingerprint(t, nil, c.etc) }
	var all []split
	for _, major := range []int{12, 17} {
		c := split{bare(t, testpg.Options{Major: major}), filepath.Join(root, fmt.Sprint(major), "main")}
		must(t, os.MkdirAll(c.etc, 0o755))
		for _, name := range []string{"postgresql.conf", "pg_hba.conf", "pg_ident.conf"} {
			text, err := os.ReadFile(filepath.Join(c.Data, name))
			must(t, err)
			if name == "postgresql.conf" {
				text = fmt.Appendf(text, "data_directory = '%s'\nhba_file = '%s/pg_hba.conf'\nident_file = '%s/pg_ident.conf'\n", c.Data, c.etc, c.etc)
			}
			must(t, os.WriteFile(filepath.Join(c.etc, name), text, 0o600))
			must(t, os.Remove(filepath.Join(c.Data, name)))
		}
		must(t, testpg.Own(root))
		t.Cleanup(func() { _, _ = c.Run("pg_ctl", "-D", c.Data, "-m", "immediate", "stop") }) // it may not run
		c.ctl(t, "start")
		all = append(all, c)
	}
	a.want(2, []string{"several servers run here", all[0].Data, all[1].Data}, "setup", "primary", "--archive", "file://"+archive)
	for i, c := range all {
		other := all[1-i]
		before := files(other)
		setup := []string{"setup", "primary", "-D", c.Data, "--archive", "file://" + archive, "--standby", "127.0.0.1", "--slot", "db2"}
		a.want(0, []string{"server PostgreSQL " + fmt.Sprint(c.Major), "wrote " + c.etc + "/walship.conf", "restart needed", "pg_ctlcluster " + fmt.Sprint(c.Major) + " main restart"}, setup...)
		c.ctl(t, "restart")
		a.want(0, []string{"archiving works"}, setup...)
		a.want(0, []string{"everything is as it should be"}, setup...)
		same(t, "the other cluster", before, files(other))
		text, err := os.ReadFile(filepath.Join(c.etc, "walship.conf"))
		must(t, err)
		if has := strings.Contains(string(text), "max_slot_wal_keep_size ="); has != (c.Major >= 13) {
			t.Errorf("%d: max_slot_wal_keep_size is there: %v", c.Major, has)
		}
	}
	if found, err := filepath.Glob(filepath.Join(archive, "*", "walship.json")); err != nil || len(found) != 2 {
		t.Errorf("the archive holds %v", found)
	}
}
