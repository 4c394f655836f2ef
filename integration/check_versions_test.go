//go:build versions

package integration_test

import (
	"fmt"
	"strings"
	"testing"

	"walship/internal/testpg"
)

// A primary and its standby are in order, whatever their version is, and list
// tells it.
func TestVersionsCheckAndList(t *testing.T) {
	for _, major := range []int{10, 12, 14, 16, 17, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			primary := newPrimary(t, s, testpg.Options{Major: major})
			base := backup(t, primary, false)
			insert(primary)
			primary.Archive(soon)
			standby := follow(t, s, base, primary)
			waitContents(t, standby, mustContents(t, primary))
			common := []string{"--min-free", "0%", "--max-backup-age", "off"}
			j, _ := s.check(primary, 0, append(common, "-D", primary.Data, "--switch")...)
			if !strings.HasPrefix(j.of("switch"), "OK") || !strings.HasPrefix(j.of("archiver"), "OK: the last was ") {
				t.Errorf("%+v", j)
			}
			j, _ = s.check(standby, 0, append(common, "-D", standby.Data)...)
			if !strings.HasSuffix(j.of("server"), "a standby") || (j.of("restore_command") == "") != (major < 12) {
				t.Errorf("%+v", j)
			}
			if l := s.list(primary).Clusters[0]; l.PostgreSQL != fmt.Sprint(major) || len(l.Gaps) != 0 || l.Timelines[0].Segments < 2 {
				t.Errorf("%+v", l)
			}
		})
	}
}
