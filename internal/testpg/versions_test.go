//go:build versions

package testpg

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"
)

// The kit itself, on the servers that scripts/pg-versions installs.
func TestVersions(t *testing.T) {
	for _, major := range []int{10, 12, 14, 16, 17, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			archive, restore := archiving(t)
			primary := New(t, Options{Major: major, Checksums: true, Conf: archive})
			must(t, primary.Start())
			primary.Query("create table t as select 1 as n")
			backup := filepath.Join(primary.Base, "backup")
			must(t, primary.BaseBackup(backup, false))
			if out, err := primary.Pgbench("-i", "-s", "1", "-q"); err != nil {
				t.Fatal(out, err)
			}
			primary.Archive(time.Minute)
			must(t, primary.Stop(Fast))

			standby := Restore(t, backup)
			standby.WriteRecovery(true, restore)
			must(t, standby.Start())
			WaitFor(t, time.Minute, "the standby to replay", func() bool {
				n, err := standby.Psql("select count(*) from pgbench_accounts")
				return err == nil && n == "100000"
			})
			must(t, standby.Promote())
			must(t, standby.WaitPrimary(time.Minute))

			recovered := Restore(t, backup)
			recovered.WriteRecovery(false, restore)
			must(t, recovered.Start())
			must(t, recovered.WaitPrimary(time.Minute))
			if got := recovered.Query("select count(*) from pgbench_accounts"); got != "100000" {
				t.Errorf("%s rows", got)
			}
		})
	}
}
