package transport

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"walship/internal/testnet"
	"walship/internal/testsshd"
)

// alone gives the test a home of its own, empty, and no agent.
func alone(t *testing.T) (home string) {
	home = t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("SSH_AUTH_SOCK", "")
	if err := os.Mkdir(filepath.Join(home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	return home
}

func write(t *testing.T, path string, perm os.FileMode, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), perm); err != nil {
		t.Fatal(err)
	}
	return path
}

func sshOptions(s *testsshd.Server) SSH {
	return SSH{KeyFile: s.KeyFile, KnownHosts: s.KnownHosts, Silence: 5 * time.Second}
}

func sshURL(t *testing.T, s string) URL {
	t.Helper()
	u, err := ParseURL(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// mustDial logs in and runs nothing.
func mustDial(t *testing.T, url string, o SSH) {
	t.Helper()
	c, conn, err := DialSSH(t.Context(), sshURL(t, url), o)
	if err != nil {
		t.Fatalf("%v\nhint: %s", err, Hint(err))
	}
	defer conn.Close()
	defer c.Close()
	ch, _, err := c.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := ch.SendRequest("subsystem", true, ssh.Marshal(struct{ Name string }{"sftp"})); !ok || err != nil {
		t.Fatalf("subsystem: %t, %v", ok, err)
	}
}

// mustFail wants an error of a class with all the texts in it or its hint.
func mustFail(t *testing.T, url string, o SSH, class error, texts ...string) error {
	t.Helper()
	c, _, err := DialSSH(t.Context(), sshURL(t, url), o)
	if err == nil {
		c.Close()
		t.Fatalf("logged in, want %v", class)
	}
	all := err.Error() + "\nhint: " + Hint(err)
	if !errors.Is(err, class) {
		t.Errorf("not %v: %s", class, all)
	}
	for _, text := range texts {
		if !strings.Contains(all, text) {
			t.Errorf("no %q in: %s", text, all)
		}
	}
	for _, other := range []error{ErrUnreachable, ErrLogin, ErrHostKey, ErrConfig} {
		if other != class && errors.Is(err, other) {
			t.Errorf("also %v: %s", other, all)
		}
	}
	t.Log(all)
	return err
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func TestRightKey(t *testing.T) {
	alone(t)
	s := testsshd.Start(t, testsshd.Options{})
	mustDial(t, s.URL("/"), sshOptions(s))
}

func TestPostgresChildHasNoHome(t *testing.T) {
	alone(t)
	s := testsshd.Start(t, testsshd.Options{})
	os.Unsetenv("HOME")
	os.Unsetenv("USER")
	mustDial(t, strings.Replace(s.URL("/"), s.User+"@", "", 1), sshOptions(s))
}

func TestDefaultFiles(t *testing.T) {
	home := alone(t)
	s := testsshd.Start(t, testsshd.Options{})
	mustFail(t, s.URL("/"), SSH{KnownHosts: s.KnownHosts}, ErrLogin, "no key to log in as "+s.User, "id_ed25519", "--ssh-key")
	key, _ := os.ReadFile(s.KeyFile)
	write(t, filepath.Join(home, ".ssh", "id_ed25519"), 0o600, string(key))
	known, _ := os.ReadFile(s.KnownHosts)
	write(t, filepath.Join(home, ".ssh", "known_hosts"), 0o600, string(known))
	mustDial(t, s.URL("/"), SSH{})
}

func TestWrongKey(t *testing.T) {
	alone(t)
	s := testsshd.Start(t, testsshd.Options{})
	signer, content := testsshd.NewKey(t, "wrong", "")
	o := sshOptions(s)
	o.KeyFile = write(t, filepath.Join(t.TempDir(), "wrong key"), 0o600, string(content))
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	mustFail(t, s.URL("/"), o, ErrLogin, "user "+s.User, o.KeyFile, ssh.FingerprintSHA256(signer.PublicKey()),
		"it offers publickey", line, "ssh -v -i '"+o.KeyFile+"' -p "+s.Port+" "+s.User+"@127.0.0.1")
	f, err := os.OpenFile(s.Authorized, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(line + "\n") // what the hint says
	f.Close()
	mustDial(t, s.URL("/"), o)
}

func TestKeyFilesThatCannotBeUsed(t *testing.T) {
	alone(t)
	s := testsshd.Start(t, testsshd.Options{})
	dir := t.TempDir()
	key, _ := os.ReadFile(s.KeyFile)
	for name, c := range map[string]struct {
		perm    os.FileMode
		content string
		class   error
		texts   []string
	}{
		"absent":    {class: ErrConfig, texts: []string{"does not exist"}},
		"public":    {0o644, string(ssh.MarshalAuthorizedKey(s.Key.PublicKey())), ErrConfig, []string{"holds a public key"}},
		"loose":     {0o644, string(key), ErrConfig, []string{"mode 0644", "chmod 600 " + filepath.Join(dir, "loose")}},
		"junk":      {0o600, "junk", ErrConfig, []string{"is not a private key"}},
		"truncated": {0o600, string(key[:len(key)/2]), ErrConfig, []string{"is not a private key"}},
		"putty.ppk": {0o600, "PuTTY-User-Key-File-3: ssh-ed25519\n", ErrConfig, []string{"PuTTY", "puttygen"}},
		"pkcs8":     {0o600, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", ErrLogin, []string{"protected by a passphrase"}},
	} {
		o := sshOptions(s)
		o.KeyFile = filepath.Join(dir, name)
		if c.perm != 0 {
			write(t, o.KeyFile, c.perm, c.content)
		}
		mustFail(t, s.URL("/"), o, c.class, append(c.texts, o.KeyFile)...)
	}
	if strings.Contains(s.Log(), "Connection from") {
		t.Error("a connection was made though the key could not be used")
	}
}

func TestRSAKeySignsWithSHA2(t *testing.T) {
	alone(t)
	s := testsshd.Start(t, testsshd.Options{})
	o := sshOptions(s)
	o.KeyFile = filepath.Join(t.TempDir(), "rsa")
	run(t, "ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", o.KeyFile)
	pub, _ := os.ReadFile(o.KeyFile + ".pub")
	write(t, s.Authorized, 0o644, string(pub))
	mustDial(t, s.URL("/"), o)

	// A server that knows only SHA-1 gets no signature.
	signer, ok := readKeyFile(o.KeyFile).signer.(ssh.AlgorithmSigner)
	if !ok {
		t.Fatal("the key does not choose its algorithm")
	}
	if _, err := signer.SignWithAlgorithm(rand.Reader, []byte("x"), ssh.KeyAlgoRSA); err == nil {
		t.Error("signs with SHA-1")
	}
}

func TestServerWantsMore(t *testing.T) {
	alone(t)
	s := testsshd.Start(t, testsshd.Options{Config: []string{"PasswordAuthentication yes", "AuthenticationMethods publickey,password"}})
	mustFail(t, s.URL("/"), sshOptions(s), ErrLogin, "asks for more")
	s = testsshd.Start(t, testsshd.Options{Config: []string{"PasswordAuthentication yes", "PubkeyAuthentication no"}})
	mustFail(t, s.URL("/"), sshOptions(s), ErrLogin, "it takes no keys; it offers password")
}

func TestCancel(t *testing.T) {
	alone(t)
	s := testsshd.Start(t, testsshd.Options{})
	p := testnet.New(t, s.Addr)
	p.BlackHole(true)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for p.Connections() == 0 {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	u := sshURL(t, s.URL("/"))
	u.Port = fmt.Sprint(p.Port())
	var err error
	inTime(t, func() { _, _, err = DialSSH(ctx, u, SSH{KeyFile: s.KeyFile, Silence: time.Minute}) })
	if !errors.Is(err, context.Canceled) || !errors.Is(err, ErrUnreachable) {
		t.Errorf("%v", err)
	}
	if _, _, err := DialSSH(ctx, u, SSH{KeyFile: s.KeyFile}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
}

// The connection must stay usable when the server has been silent for longer
// than a login would have allowed, also after another key exchange.
func TestReadsAreNotWatchedAfterLogin(t *testing.T) {
	alone(t)
	s := testsshd.Start(t, testsshd.Options{Config: []string{"RekeyLimit 16K", "LogLevel DEBUG1"}})
	o := sshOptions(s)
	o.Silence = time.Second
	c, conn, err := DialSSH(t.Context(), sshURL(t, s.URL("/")), o)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	for range 3 {
		select {
		case err := <-ended:
			t.Fatalf("ended: %v", err)
		case <-time.After(o.Silence + 100*time.Millisecond):
		}
		if _, _, err := c.SendRequest("no-such-request", true, make([]byte, 20<<10)); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(s.Log(), "SSH2_MSG_KEXINIT received"); n < 2 {
		t.Errorf("%d key exchanges, want more than the first", n)
	}
	conn.Close()
	<-ended
}
