//go:build versions

package pgserver

import (
	"fmt"
	"testing"

	"walship/internal/testpg"
)

// Both methods, and the exclusive way where there is one, on the servers that
// scripts/pg-versions installs.
func TestVersions(t *testing.T) {
	for _, major := range []int{10, 12, 14, 16, 17, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			c, wal := server(t, testpg.Options{Major: major, Checksums: true})
			fill(t, c)
			ways := []BackupOptions{{Method: Protocol}, {Method: Files}}
			if major < 15 {
				ways = append(ways, BackupOptions{Method: Files, exclusive: true})
			}
			for _, o := range ways {
				t.Run(nameOf(o), func(t *testing.T) {
					o.Params, o.Fast = params(c), true
					backupAndRestore(t, c, wal, o)
				})
			}
			for _, o := range ways {
				t.Run("endings of "+nameOf(o), func(t *testing.T) { endings(t, c, o) })
			}
			t.Run("damaged page", func(t *testing.T) { damagedPage(t, c, ways) })
		})
	}
}

func nameOf(o BackupOptions) string {
	if o.exclusive {
		return o.Method + ", exclusive"
	}
	return o.Method
}
