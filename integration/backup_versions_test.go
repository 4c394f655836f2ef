//go:build versions

package integration_test

import (
	"fmt"
	"testing"

	"walship/internal/testpg"
)

// Base backups of the servers that scripts/pg-versions installs, by both
// methods, unpacked with zstd and tar alone.
func TestBackupVersions(t *testing.T) {
	for _, major := range []int{10, 12, 14, 16, 17, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			backupMethods(t, testpg.Options{Major: major})
		})
	}
}
