package testproftpd

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestStart(t *testing.T) {
	s := Start(t, Options{})
	root := t.TempDir()
	file := filepath.Join(root, "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(s.Addr)
	cmd := exec.Command("sftp", "-b", "-", "-F", "none", "-P", port, "-i", s.KeyFile, "-o", "IdentitiesOnly=yes",
		"-o", "IdentityAgent=none", "-o", "UserKnownHostsFile="+s.KnownHosts, "-o", "GlobalKnownHostsFile=/dev/null", s.User+"@127.0.0.1")
	cmd.Stdin = strings.NewReader("put " + file + " " + root + "/a\nln " + root + "/a " + root + "/b\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sftp: %v\n%s\n%s", err, out, s.Log())
	}
	if got, err := os.ReadFile(filepath.Join(root, "b")); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
}
