package transport

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"walship/internal/testsshd"
)

// startAgent runs a real ssh-agent and returns its socket.
func startAgent(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent") // short: a socket's path has little room
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	cmd := exec.Command("ssh-agent", "-D", "-a", socket)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	if _, err := out.Read(make([]byte, 1)); err != nil { // it prints once it listens
		t.Fatal(err)
	}
	return socket
}

func addKey(t *testing.T, socket, file string) {
	t.Helper()
	cmd := exec.Command("ssh-add", "-q", file)
	cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ssh-add: %v\n%s", err, out)
	}
}

// locked copies the server's key and protects the copy by a passphrase.
func locked(t *testing.T, s *testsshd.Server, path string) string {
	t.Helper()
	key, err := os.ReadFile(s.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, 0o600, string(key))
	run(t, "ssh-keygen", "-q", "-p", "-P", "", "-N", "s3cret", "-f", path)
	return path
}

func TestEncryptedKey(t *testing.T) {
	home := alone(t)
	s := testsshd.Start(t, testsshd.Options{})
	o := sshOptions(s)
	o.KeyFile = locked(t, s, filepath.Join(home, "locked"))
	mustFail(t, s.URL("/"), o, ErrLogin, o.KeyFile, "is protected by a passphrase", "load it into an ssh-agent")

	socket := startAgent(t)
	t.Setenv("SSH_AUTH_SOCK", socket)
	mustFail(t, s.URL("/"), o, ErrLogin, "is protected by a passphrase") // an empty agent
	addKey(t, socket, s.KeyFile)
	mustDial(t, s.URL("/"), o)

	// The same with no key named, found as an identity and only in the agent.
	o.KeyFile = ""
	mustDial(t, s.URL("/"), o)
	locked(t, s, filepath.Join(home, ".ssh", "id_ed25519"))
	mustDial(t, s.URL("/"), o)
	t.Setenv("SSH_AUTH_SOCK", "")
	mustFail(t, s.URL("/"), o, ErrLogin, "unusable", "id_ed25519 is protected by a passphrase")
}

func TestAgentFromConfig(t *testing.T) {
	home := alone(t)
	s := testsshd.Start(t, testsshd.Options{})
	socket := startAgent(t)
	_, wrong := testsshd.NewKey(t, "the wrong one", "")
	addKey(t, socket, write(t, filepath.Join(home, "wrong"), 0o600, string(wrong)))
	addKey(t, socket, s.KeyFile)
	pub := write(t, filepath.Join(home, "id.pub"), 0o644, string(ssh.MarshalAuthorizedKey(s.Key.PublicKey())))
	o := SSH{KnownHosts: s.KnownHosts}

	configure(t, home, "Host *\n\tIdentityAgent "+socket+"\n")
	mustDial(t, s.URL("/"), o)
	if n := strings.Count(s.Log(), "Failed publickey"); n != 1 {
		t.Errorf("%d keys were refused, want the wrong one first\n%s", n, s.Log())
	}
	configure(t, home, "Host *\n\tIdentityAgent "+socket+"\n\tIdentityFile "+pub+"\n\tIdentitiesOnly yes\n")
	mustDial(t, s.URL("/"), o)
	if n := strings.Count(s.Log(), "Failed publickey"); n != 1 {
		t.Errorf("the wrong key was offered though IdentitiesOnly is set\n%s", s.Log())
	}
	write(t, s.Authorized, 0o644, "")
	configure(t, home, "Host *\n\tIdentityAgent "+socket+"\n")
	mustFail(t, s.URL("/"), o, ErrLogin, "any of 2 keys", `agent's key "the wrong one"`, `agent's key "walship test key"`)
	configure(t, home, "Host *\n\tIdentityAgent "+socket+"\n\tIdentityFile "+pub+"\n\tIdentitiesOnly yes\n")
	if err := mustFail(t, s.URL("/"), o, ErrLogin, pub+" through the agent"); strings.Contains(err.Error(), "the wrong one") {
		t.Errorf("offered in spite of IdentitiesOnly: %v", err)
	}
	configure(t, home, "Host *\n\tIdentityAgent none\n")
	mustFail(t, s.URL("/"), o, ErrLogin, "no key to log in")
}

func TestTooManyKeys(t *testing.T) {
	home := alone(t)
	s := testsshd.Start(t, testsshd.Options{Config: []string{"MaxAuthTries 2"}})
	socket := startAgent(t)
	t.Setenv("SSH_AUTH_SOCK", socket)
	for _, name := range []string{"a", "b", "c", "d"} {
		_, key := testsshd.NewKey(t, name, "")
		addKey(t, socket, write(t, filepath.Join(home, name), 0o600, string(key)))
	}
	mustFail(t, s.URL("/"), SSH{KnownHosts: s.KnownHosts}, ErrLogin, "too many keys", "--ssh-key")
}

// An agent that never answers must not hold up a login for good, nor one that
// does not need it at all.
func TestSilentAgent(t *testing.T) {
	home := alone(t)
	s := testsshd.Start(t, testsshd.Options{})
	socket := filepath.Join(home, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("SSH_AUTH_SOCK", socket)
	asked := make(chan bool, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			asked <- true
		}
	}()
	o := sshOptions(s)
	mustDial(t, s.URL("/"), o)
	if len(asked) != 0 {
		t.Error("the agent was asked though the key needs none")
	}
	o.Silence = time.Second
	o.KeyFile = locked(t, s, filepath.Join(home, "locked"))
	mustFail(t, s.URL("/"), o, ErrLogin, "protected by a passphrase")
	o.KeyFile = ""
	mustFail(t, s.URL("/"), o, ErrLogin, "agent at "+socket)
	key, _ := os.ReadFile(s.KeyFile)
	write(t, filepath.Join(home, ".ssh", "id_ed25519"), 0o600, string(key))
	mustDial(t, s.URL("/"), o)
}
