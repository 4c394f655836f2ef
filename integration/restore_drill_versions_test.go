//go:build versions

package integration_test

import (
	"fmt"
	"strings"
	"testing"

	"walship/internal/testpg"
)

// Drills, and restores that are started, on the servers that scripts/pg-versions
// installs. They bring no pg_amcheck.
func TestRestoreVersionsDrillAndStart(t *testing.T) {
	for _, major := range []int{10, 12, 14, 16, 17, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			l := loseBackedUp(t, testpg.Options{Major: major, Conf: map[string]string{"max_prepared_transactions": "10"}})
			dir := testpg.Dir(t)
			report, r := l.drill(dir, "--bin-dir", l.primary.Bin)
			if r.code != 0 || report.Check.Method != "read" || report.Check.Rows == nil || *report.Check.Rows < 1000 || report.RestoredTo.LastTransaction == nil {
				t.Errorf("to the end: %s", r)
			}
			nothingLeft(t, dir)

			// Servers before 13 open without a word.
			report, r = l.drill(dir, "--bin-dir", l.primary.Bin, "--name", "nowhere")
			if r.code != 18 || !strings.Contains(report.Error, "the recovery target was not reached: ") {
				t.Errorf("a target never reached: %s", r)
			}
			nothingLeft(t, dir)

			data, r := l.start("--bin-dir", l.primary.Bin, "--time", l.between)
			if r.code != 0 || !strings.Contains(r.stdout, ", paused at its target\n          recovery stopping before commit of transaction ") {
				t.Fatalf("paused at a time: %s", r)
			}
			if got := l.primary.Query("select count(*), pg_is_in_recovery() from rows"); got != "1|t" {
				t.Errorf("the copy says %s", got)
			}
			l.end(data)
		})
	}
}
