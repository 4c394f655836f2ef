package transport

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"walship/internal/testsshd"
)

func configure(t *testing.T, home, content string) {
	t.Helper()
	write(t, filepath.Join(home, ".ssh", "config"), 0o600, content)
}

func TestHostAlias(t *testing.T) {
	home := alone(t)
	s := testsshd.Start(t, testsshd.Options{})
	known, _ := os.ReadFile(s.KnownHosts)
	write(t, filepath.Join(home, "my_hosts"), 0o600, string(known))
	key, _ := os.ReadFile(s.KeyFile)
	write(t, filepath.Join(home, ".ssh", "id_archive"), 0o600, string(key))
	configure(t, home, `Host archive
	HostName 127.0.0.1
	Port `+s.Port+`
	User `+s.User+`
	IdentityFile ~/.ssh/absent
	IdentityFile ~/.ssh/id_archive
	IdentitiesOnly yes
	UserKnownHostsFile `+home+`/my_hosts
Match final host 127.0.0.1
	LogLevel QUIET
`)
	mustDial(t, "sftp://archive/", SSH{})
	mustDial(t, "sftp://archive/", sshOptions(s))
	mustDial(t, s.URL("/"), sshOptions(s))
	// What the URL says wins.
	mustFail(t, "sftp://archive:1/", SSH{}, ErrUnreachable, "127.0.0.1:1")
	mustFail(t, "sftp://nobody-here@archive/", SSH{}, ErrLogin, "user nobody-here", "id_archive")
	o := SSH{KnownHosts: filepath.Join(home, "empty")}
	mustFail(t, "sftp://archive/", o, ErrHostKey, o.KnownHosts)
}

func TestMatchFinal(t *testing.T) {
	home := alone(t)
	s := testsshd.Start(t, testsshd.Options{})
	configure(t, home, "Host a\n\tHostName 127.0.0.1\nMatch final host 127.0.0.1\n\tPort "+s.Port+"\n\tUser "+s.User+"\n")
	mustDial(t, "sftp://a/", sshOptions(s))
}

func TestHostKeyAlias(t *testing.T) {
	home := alone(t)
	s := testsshd.Start(t, testsshd.Options{})
	configure(t, home, "Host a\n\tHostName 127.0.0.1\n\tHostKeyAlias archive-one\n\tPort "+s.Port+"\n")
	o := sshOptions(s)
	o.KnownHosts = filepath.Join(home, "known")
	err := mustFail(t, "sftp://"+s.User+"@a/", o, ErrHostKey, "archive-one")
	run(t, "sh", "-c", hintCommand(t, err))
	mustDial(t, "sftp://"+s.User+"@a/", o)
	if b, _ := os.ReadFile(o.KnownHosts); !strings.Contains(string(b), "archive-one ssh-ed25519 ") {
		t.Errorf("pinned: %s", b)
	}
}

func TestConfigRefused(t *testing.T) {
	home := alone(t)
	s := testsshd.Start(t, testsshd.Options{})
	o := sshOptions(s)
	path := filepath.Join(home, ".ssh", "config")
	configure(t, home, "Host *\n\tProxyJump bastion\n")
	mustFail(t, s.URL("/"), o, ErrConfig, path, "proxyjump", "bastion", "not supported", "reached directly")
	configure(t, home, "Host *\n\tProxyCommand nc %h %p\n")
	mustFail(t, s.URL("/"), o, ErrConfig, path, "proxycommand", "nc %h %p")
	configure(t, home, "Host *\n\tProxyCommand none\n\tProxyJump none\n")
	mustDial(t, s.URL("/"), o)
	configure(t, home, "Host *\n\tNoSuchKeyword yes\n")
	mustFail(t, s.URL("/"), o, ErrConfig, path, "nosuchkeyword")

	configure(t, home, "Match exec \"exec sleep 1000\"\n\tPort 1\n")
	o.Silence = time.Second
	begin := time.Now()
	mustFail(t, s.URL("/"), o, ErrConfig, "did not end within 1s")
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("took %v", d)
	}

	t.Setenv("PATH", t.TempDir())
	mustFail(t, s.URL("/"), o, ErrConfig, path, "not in PATH", "install the OpenSSH client")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	mustDial(t, s.URL("/"), o) // without the file no ssh is needed
}
