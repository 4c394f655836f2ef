//go:build versions

package integration_test

import (
	"fmt"
	"testing"

	"walship/internal/testpg"
)

// The main job, an outage in archive recovery, and the failover without an
// archive, on the servers that scripts/pg-versions installs.
func TestVersions(t *testing.T) {
	for _, major := range []int{10, 12, 14, 16, 17, 18} {
		o := testpg.Options{Major: major}
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Run("archive and recover", func(t *testing.T) {
				t.Parallel()
				archiveAndRecover(t, o)
			})
			t.Run("outage", func(t *testing.T) {
				t.Parallel()
				outagesStopRecovery(t, losePrimary(t, o), outage{name: "outage", begin: sshdDown, says: "connection refused"})
			})
			for _, silent := range []bool{false, true} {
				t.Run("failover, archive "+archiveIs(silent), func(t *testing.T) {
					t.Parallel()
					failover(t, o, silent)
				})
			}
		})
	}
}
