package transport

import (
	"path/filepath"
	"testing"

	"walship/internal/testsshd"
)

// A server that offers nothing but what is broken or weak is not logged in to:
// SHA-1 signatures, key exchanges and MACs, CBC, and ciphers of old. Whoever
// stands in between can make a server look like that.
func TestWeakAlgorithms(t *testing.T) {
	alone(t)
	for _, c := range []struct {
		what   string
		config string
		says   string // the part of the handshake that found nothing
		only   string // what the server offers
	}{
		{"CBC", "Ciphers aes128-cbc,aes256-cbc,3des-cbc", "cipher", "aes128-cbc"},
		{"SHA-1 MACs", "MACs hmac-sha1,hmac-sha1-etm@openssh.com,hmac-sha1-96", "MAC", "hmac-sha1"},
		{"MD5 MACs", "MACs hmac-md5,hmac-md5-96", "MAC", "hmac-md5"},
		{"64-bit MACs", "MACs umac-64@openssh.com", "MAC", "umac-64"},
		{"SHA-1 key exchanges", "KexAlgorithms diffie-hellman-group1-sha1,diffie-hellman-group14-sha1,diffie-hellman-group-exchange-sha1", "key exchange", "sha1"},
		{"SHA-1 host keys", "HostKeyAlgorithms ssh-rsa", "host key", "ssh-rsa"},
	} {
		// A MAC is only spoken of with ciphers that need one.
		s := testsshd.Start(t, testsshd.Options{Config: []string{c.config, "Ciphers aes128-ctr,aes256-ctr"}})
		o := sshOptions(s)
		if c.what == "SHA-1 host keys" {
			o.KnownHosts = write(t, filepath.Join(t.TempDir(), "known_hosts"), 0o600, s.KnownHostsLine(s.HostKeys[2]))
		}
		t.Run(c.what, func(t *testing.T) { mustFail(t, s.URL("/"), o, ErrUnreachable, "no common algorithm", c.says, c.only) })
	}
	// One that accepts SHA-1 signatures of the account's key alone gets none.
	s := testsshd.Start(t, testsshd.Options{Config: []string{"PubkeyAcceptedAlgorithms ssh-rsa"}})
	o := sshOptions(s)
	o.KeyFile = filepath.Join(t.TempDir(), "rsa")
	run(t, "ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", o.KeyFile)
	write(t, s.Authorized, 0o644, run(t, "ssh-keygen", "-y", "-f", o.KeyFile))
	mustFail(t, s.URL("/"), o, ErrLogin, "does not let user")
}
