package testgosftp

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestHide(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "a"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := func(o Options) error {
		s := Start(t, o)
		_, port, _ := net.SplitHostPort(s.Addr)
		cmd := exec.Command("sftp", "-b", "-", "-F", "none", "-P", port, "-i", s.KeyFile, "-o", "IdentitiesOnly=yes",
			"-o", "IdentityAgent=none", "-o", "UserKnownHostsFile="+s.KnownHosts, "-o", "GlobalKnownHostsFile=/dev/null", s.User+"@127.0.0.1")
		cmd.Stdin = strings.NewReader("df\nln " + root + "/a " + root + "/b\n")
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		return err
	}
	if err := link(Options{Hide: []string{"hardlink@openssh.com"}}); err == nil {
		t.Error("hidden, and yet it links")
	}
	if err := link(Options{}); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(filepath.Join(root, "b")); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
}
