package testsshd

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func itoa(n int) string { return strconv.Itoa(n) }

func TestChroot(t *testing.T) {
	if os.Getuid() != 0 {
		return // only root can make such an account, and Start says so
	}
	s := Start(t, Options{Chroot: true})
	if out, err := sftp(s, "pwd\nput "+s.KeyFile+".pub /wal/a\n"); err != nil || !strings.Contains(out, "directory: /\n") {
		t.Fatalf("sftp: %v\n%s\n%s", err, out, s.Log())
	}
	if _, err := os.Stat(filepath.Join(s.ChrootDir, "wal", "a")); err != nil {
		t.Fatal(err)
	}
	if out, err := sftp(s, "put "+s.KeyFile+".pub /b\n"); err == nil {
		t.Errorf("the account may write to its root: %s", out)
	}
}
