package transport

import (
	"context"
	"errors"
	"net"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
)

// HostKey is the key that a server shows before anyone logs in.
type HostKey struct {
	Kind        string // "ED25519"
	Fingerprint string // "SHA256:…"
	Line        string // for a known_hosts file, without newline

	// Files are the known_hosts files that count, the first being the one to
	// pin the key in.
	Files []string

	// Trusted is nil if the files hold the key. Otherwise it is ErrHostKey, as a
	// login would end with.
	Trusted error

	// Unknown says that the files hold no key at all for the server: to pin this
	// one contradicts nothing.
	Unknown bool
}

// errShown ends a handshake of which only the host key was of interest.
var errShown = errors.New("the host key has been seen")

// ShowHostKey connects to u's host and returns the key that it shows, without
// logging in. No private key is needed. If some kinds of keys are pinned it is
// one of those that is asked for. It is bounded as DialSSH is; its errors are
// those of DialSSH, but for a key that is not trusted, which is an answer.
func ShowHostKey(ctx context.Context, u URL, o SSH) (HostKey, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, o.loginLimit(), errSlowLogin)
	defer cancel()
	t, err := resolve(ctx, u, o)
	if err != nil {
		return HostKey{}, err
	}
	hosts, err := readKnownHosts(t)
	if err != nil {
		return HostKey{}, err
	}
	conn, err := dialConn(ctx, t.host, t.port, o.silence())
	if err != nil {
		return HostKey{}, netError(ctx, t.addr(), stepConnect, o.silence(), err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()

	var shown *HostKey
	_, _, _, err = ssh.NewClientConn(conn, hosts.addr, &ssh.ClientConfig{
		Config: ssh.Config{
			KeyExchanges: keyExchanges(),
			Ciphers:      ciphers(fastAES()),
			MACs:         []string{ssh.HMACSHA256ETM, ssh.HMACSHA512ETM, ssh.HMACSHA256, ssh.HMACSHA512},
		},
		User:              t.user,
		HostKeyAlgorithms: hosts.algorithms(),
		HostKeyCallback: func(name string, remote net.Addr, key ssh.PublicKey) error {
			shown = &HostKey{
				Kind:        kind(key),
				Fingerprint: ssh.FingerprintSHA256(key),
				Line:        knownhosts.Line([]string{hosts.addr}, key),
				Files:       t.knownHosts,
			}
			shown.Trusted = hosts.check(name, remote, key)
			var untrusted *hostKeyError
			if errors.As(shown.Trusted, &untrusted) {
				shown.Trusted = untrusted.err
			}
			shown.Unknown = shown.Trusted != nil && len(hosts.pinned()) == 0 && !revoked(hosts, name, remote, key)
			return errShown
		},
	})
	if shown != nil {
		return *shown, nil
	}
	return HostKey{}, explain(ctx, err, conn, t, &keyring{})
}

// pinned returns the keys that the files hold for the server itself: not those
// of authorities, whose line says nothing of this host.
func (h *knownHosts) pinned() (keys []ssh.PublicKey) {
	for _, name := range h.names()[:1] {
		for _, key := range h.db.HostKeys(name) {
			if !key.Cert {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

// revoked reports whether a @revoked line names the key.
func revoked(h *knownHosts, name string, remote net.Addr, key ssh.PublicKey) bool {
	err := h.db.HostKeyCallback()(h.addr, remote, key)
	return err != nil && !knownhosts.IsHostUnknown(err)
}
