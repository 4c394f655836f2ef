package testsshd

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// sftp runs OpenSSH's own client with one batch of commands.
func sftp(s *Server, batch string) (string, error) {
	cmd := exec.Command("sftp", append(append([]string{"-b", "-"}, s.ClientArgs()...), s.Target())...)
	cmd.Stdin = strings.NewReader(batch)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestStartStopRestart(t *testing.T) {
	s := Start(t, Options{})
	dir := t.TempDir()
	put := "put " + s.KeyFile + ".pub " + filepath.Join(dir, "a") + "\n"
	if out, err := sftp(s, put); err != nil {
		t.Fatalf("sftp: %v\n%s\n%s", err, out, s.Log())
	}
	if _, err := os.Stat(filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(s.Log(), "Accepted publickey for "+s.User) {
		t.Errorf("log does not show the login:\n%s", s.Log())
	}
	s.Stop()
	if c, err := net.Dial("tcp", s.Addr); err == nil {
		c.Close()
		t.Fatal("still listening after Stop")
	}
	s.Restart()
	if out, err := sftp(s, put); err != nil {
		t.Fatalf("sftp after Restart: %v\n%s", err, out)
	}
}

func TestStopEndsFrozenSessions(t *testing.T) {
	s := Start(t, Options{Subsystem: SFTPServer(t)})
	cmd := exec.Command("sftp", append(s.ClientArgs(), s.Target())...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	in.Write([]byte("pwd\n"))
	if _, err := out.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	pids := s.Processes()
	if len(pids) < 2 {
		t.Fatalf("processes of a session: %v", pids)
	}
	for _, pid := range pids {
		syscall.Kill(pid, syscall.SIGSTOP)
	}
	s.Stop()
	in.Close()
	cmd.Wait() // ends, for its connection is gone
	for _, pid := range pids {
		name, _ := os.ReadFile("/proc/" + itoa(pid) + "/cmdline")
		if strings.Contains(string(name), "sshd") || strings.Contains(string(name), "sftp-server") {
			t.Errorf("process %d lives on: %q", pid, name)
		}
	}
}

func TestStrace(t *testing.T) {
	s := Start(t, Options{Strace: "trace=mkdir"})
	dir := filepath.Join(t.TempDir(), "made")
	if out, err := sftp(s, "mkdir "+dir+"\n"); err != nil {
		t.Fatalf("sftp: %v\n%s\n%s", err, out, s.Log())
	}
	want := "mkdir("
	if os.Getuid() == 0 {
		want += `"` + dir
	}
	if !strings.Contains(s.Trace(), want) {
		t.Errorf("trace: %s", s.Trace())
	}
}
