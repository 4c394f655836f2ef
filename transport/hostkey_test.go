package transport

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"walship/internal/testsshd"
)

// hintCommand is the shell command at the end of a hint.
func hintCommand(t *testing.T, err error) string {
	t.Helper()
	for _, start := range []string{"ssh-keygen -R ", "mkdir ", "ssh-keyscan "} {
		if i := strings.Index(Hint(err), start); i >= 0 {
			return Hint(err)[i:]
		}
	}
	t.Fatalf("no command in the hint %q", Hint(err))
	return ""
}

func TestUnknownHost(t *testing.T) {
	alone(t)
	s := testsshd.Start(t, testsshd.Options{})
	o := sshOptions(s)
	o.KnownHosts = filepath.Join(t.TempDir(), "it's new", "known hosts")
	err := mustFail(t, s.URL("/"), o, ErrHostKey, "is unknown", "ED25519 key "+s.Fingerprint, o.KnownHosts, "ssh-keyscan -p "+s.Port+" 127.0.0.1")
	run(t, "sh", "-c", hintCommand(t, err)) // the command does what it says
	mustDial(t, s.URL("/"), o)
}

func TestChangedHost(t *testing.T) {
	alone(t)
	s := testsshd.Start(t, testsshd.Options{})
	other, _ := testsshd.NewKey(t, "", "")
	o := sshOptions(s)
	o.KnownHosts = write(t, filepath.Join(t.TempDir(), "known"), 0o600, "# a comment\n"+s.KnownHostsLine(other.PublicKey()))
	err := mustFail(t, s.URL("/"), o, ErrHostKey, "has changed", o.KnownHosts+" line 2", ssh.FingerprintSHA256(other.PublicKey()),
		"now shows the ED25519 key "+s.Fingerprint, "ssh-keygen -R '["+s.Host+"]:"+s.Port+"' -f "+o.KnownHosts)
	if log := s.Log(); strings.Contains(log, "Accepted") {
		t.Errorf("logged in all the same: %s", log)
	}
	run(t, "sh", "-c", hintCommand(t, err))
	mustDial(t, s.URL("/"), o)
}

func TestKnownHostsEntries(t *testing.T) {
	alone(t)
	s := testsshd.Start(t, testsshd.Options{})
	host := "[" + s.Host + "]:" + s.Port
	keyLine := func(k ssh.PublicKey) string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k))) }
	other, _ := testsshd.NewKey(t, "", "")
	ed := keyLine(s.HostKeys[0])
	for name, c := range map[string]struct{ content, fails string }{
		"ed25519 only":        {content: host + " " + ed},
		"ecdsa only":          {content: host + " " + keyLine(s.HostKeys[1])},
		"rsa only":            {content: host + " " + keyLine(s.HostKeys[2])},
		"rsa and ed25519":     {content: host + " " + keyLine(s.HostKeys[2]) + "\n" + host + " " + ed},
		"hashed":              {content: knownhosts.HashHostname(host) + " " + ed},
		"without port":        {content: s.Host + " " + ed},
		"wildcard":            {content: "127.0.* " + ed},
		"old and new":         {content: host + " " + keyLine(other.PublicKey()) + "\n" + host + " " + ed},
		"negated":             {content: host + ",!" + host + " " + ed, fails: "is unknown"},
		"another port":        {content: "[127.0.0.1]:1 " + ed, fails: "is unknown"},
		"port 22 has another": {content: s.Host + " " + keyLine(other.PublicKey()), fails: "is unknown"},
		"revoked":             {content: host + " " + ed + "\n@revoked * " + ed, fails: "line 2 marks as revoked"},
		"hashed, changed":     {content: knownhosts.HashHostname(host) + " " + keyLine(other.PublicKey()), fails: "has changed"},
		"as authority only":   {content: "@cert-authority " + host + " " + ed, fails: "is unknown"},
		"authority and key":   {content: "@cert-authority " + host + " " + keyLine(other.PublicKey()) + "\n" + host + " " + ed},
	} {
		t.Run(name, func(t *testing.T) {
			o := sshOptions(s)
			o.KnownHosts = write(t, filepath.Join(t.TempDir(), "known"), 0o600, c.content+"\n")
			if c.fails == "" {
				mustDial(t, s.URL("/"), o)
			} else {
				mustFail(t, s.URL("/"), o, ErrHostKey, c.fails)
			}
		})
	}
	o := sshOptions(s)
	o.KnownHosts = write(t, filepath.Join(t.TempDir(), "known"), 0o600, "host ssh-ed25519 junk\n")
	mustFail(t, s.URL("/"), o, ErrConfig, o.KnownHosts+": no valid entries, line 1")
}

// The authority's own key is of another kind than the host's.
func TestHostCertificate(t *testing.T) {
	alone(t)
	dir := t.TempDir()
	ca, host := filepath.Join(dir, "ca"), filepath.Join(dir, "host")
	run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", ca)
	run(t, "ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", host)
	run(t, "ssh-keygen", "-q", "-s", ca, "-h", "-I", "x", "-n", "127.0.0.1", host+".pub")
	s := testsshd.Start(t, testsshd.Options{Config: []string{"HostKey " + host, "HostCertificate " + host + "-cert.pub"}})
	pub, err := os.ReadFile(ca + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	o := sshOptions(s)
	o.KnownHosts = write(t, filepath.Join(dir, "known"), 0o600, "@cert-authority 127.0.0.* "+string(pub))
	mustDial(t, s.URL("/"), o)
	o.KnownHosts = write(t, filepath.Join(dir, "known2"), 0o600, "@cert-authority 127.0.0.* "+string(pub)+"@revoked * "+string(pub))
	mustFail(t, s.URL("/"), o, ErrHostKey)
}
