package pgserver

import (
	"fmt"
	"strings"

	"walship/internal/pgdata"
)

// baseBackup is the replication command, in the words of the server's version.
// walship waits for the archive itself, so the server need not.
func baseBackup(v pgdata.Version, o BackupOptions) string {
	label := "LABEL '" + strings.ReplaceAll(o.Label, "'", "''") + "'"
	if v >= version15 {
		options := []string{label, "PROGRESS", "WAIT 0", "TABLESPACE_MAP", "MANIFEST 'yes'"}
		if o.Fast {
			options = append(options, "CHECKPOINT 'fast'")
		}
		if o.MaxRate > 0 {
			options = append(options, fmt.Sprintf("MAX_RATE %d", serverRate(o.MaxRate)))
		}
		return "BASE_BACKUP (" + strings.Join(options, ", ") + ")"
	}
	words := []string{"BASE_BACKUP", label, "PROGRESS"}
	if o.Fast {
		words = append(words, "FAST")
	}
	words = append(words, "NOWAIT")
	if v >= version94 && o.MaxRate > 0 {
		words = append(words, fmt.Sprintf("MAX_RATE %d", serverRate(o.MaxRate)))
	}
	if v >= version95 {
		words = append(words, "TABLESPACE_MAP")
	}
	if v >= version13 {
		words = append(words, "MANIFEST 'yes'")
	}
	return strings.Join(words, " ")
}

// serverRate keeps a rate within what the server accepts.
func serverRate(kB int) int { return min(max(kB, 32), 1<<20) }
