package transport

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"
)

// knownHosts holds the host keys that are trusted. There is no way to accept
// another one than to put it into the file.
type knownHosts struct {
	t    target
	db   *knownhosts.HostKeyDB
	addr string // name and port under which the server is looked up
}

// readKnownHosts reads the files that t names. One that does not exist holds no key.
func readKnownHosts(t target) (*knownHosts, error) {
	h := &knownHosts{t: t, addr: net.JoinHostPort(t.host, t.port)}
	if t.alias != "" {
		h.addr = net.JoinHostPort(t.alias, "22") // ssh looks an alias up without port
	}
	var files []string
	for _, f := range t.knownHosts {
		if _, err := os.Stat(f); err == nil {
			files = append(files, f)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: known hosts: %w", ErrConfig, err)
		}
	}
	db, err := knownhosts.NewDB(files...)
	if err != nil {
		return nil, WithHint(fmt.Errorf("%w: known hosts cannot be read: %w", ErrConfig, err),
			"mend or remove the line, or name another file with --known-hosts")
	}
	h.db = db
	return h, nil
}

// names returns what the server is looked up as, in this order. As ssh does,
// a key pinned without a port counts for every port.
func (h *knownHosts) names() []string {
	host, port, _ := net.SplitHostPort(h.addr)
	if port == "22" {
		return []string{h.addr}
	}
	return []string{h.addr, net.JoinHostPort(host, "22")}
}

// algorithms returns the kinds of host keys to ask for: those that are pinned
// first, else the server shows another of its keys and it looks changed. The
// others follow so that a really changed one can be shown.
func (h *knownHosts) algorithms() []string {
	var list []string
	for _, name := range h.names() {
		for _, key := range h.db.HostKeys(name) {
			switch {
			case key.Cert: // the authority's kind says nothing of the host's
				list = appendNew(list, secureHostCerts()...)
			case key.Type() == ssh.KeyAlgoRSA:
				list = appendNew(list, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
			case slices.Contains(secureHostKeys(), key.Type()):
				list = appendNew(list, key.Type())
			}
		}
	}
	return appendNew(list, secureHostKeys()...)
}

// hostKeyError carries an error through x/crypto/ssh.
type hostKeyError struct{ err error }

func (e *hostKeyError) Error() string { return e.err.Error() }

// check is the ssh.HostKeyCallback. Its error is a *hostKeyError.
func (h *knownHosts) check(_ string, remote net.Addr, key ssh.PublicKey) error {
	callback := h.db.HostKeyCallback()
	var first error
	for _, name := range h.names() {
		err := callback(name, remote, key)
		err = h.withoutAuthorities(name, key, err)
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
		if !knownhosts.IsHostUnknown(err) {
			break
		}
	}
	// A key pinned for this very port that differs is a change; one pinned for
	// the bare name may be that of the sshd on port 22.
	return &hostKeyError{h.explain(first, key)}
}

// withoutAuthorities corrects the answer about a plain key: the package takes
// the key of a @cert-authority line for a host's own.
func (h *knownHosts) withoutAuthorities(name string, key ssh.PublicKey, err error) error {
	var mismatch *xknownhosts.KeyError
	if _, cert := key.(*ssh.Certificate); cert || err != nil && !errors.As(err, &mismatch) {
		return err
	}
	same := func(k ssh.PublicKey) func(knownhosts.PublicKey) bool {
		return func(pinned knownhosts.PublicKey) bool {
			return !pinned.Cert && bytes.Equal(pinned.Marshal(), k.Marshal())
		}
	}
	pinned := h.db.HostKeys(name)
	if err != nil {
		mismatch.Want = slices.DeleteFunc(mismatch.Want, func(k xknownhosts.KnownKey) bool {
			return !slices.ContainsFunc(pinned, same(k.Key))
		})
		return mismatch
	}
	if !slices.ContainsFunc(pinned, same(key)) {
		return &xknownhosts.KeyError{}
	}
	return nil
}

// explain puts a refusal into words.
func (h *knownHosts) explain(err error, key ssh.PublicKey) error {
	shown := fmt.Sprintf("%s key %s", kind(key), ssh.FingerprintSHA256(key))
	var revoked *xknownhosts.RevokedError
	if errors.As(err, &revoked) {
		return WithHint(fmt.Errorf("%w: %s shows the %s, which %s line %d marks as revoked", ErrHostKey,
			h.t.addr(), shown, revoked.Revoked.Filename, revoked.Revoked.Line),
			"someone who has the old key may stand in between: ask the archive host's administrator")
	}
	var mismatch *xknownhosts.KeyError
	switch {
	case !errors.As(err, &mismatch): // a host certificate
		return fmt.Errorf("%w: %s shows a host certificate with the %s: %w", ErrHostKey, h.t.addr(), shown, err)
	case len(mismatch.Want) > 0:
		return h.changed(mismatch.Want, shown)
	}
	return WithHint(fmt.Errorf("%w: %s is unknown; it shows the %s, which is not in %s", ErrHostKey,
		h.t.addr(), shown, strings.Join(h.t.knownHosts, " nor in ")),
		fmt.Sprintf("compare the fingerprint with what ssh-keygen -l -f /etc/ssh/ssh_host_%s_key.pub says on the archive host, then trust it: %s",
			strings.ToLower(kind(key)), h.pin()))
}

// changed says which lines stand against the key that was shown.
func (h *knownHosts) changed(want []xknownhosts.KnownKey, shown string) error {
	var lines, files []string
	for _, k := range want {
		lines = append(lines, fmt.Sprintf("%s line %d has the %s key %s", k.Filename, k.Line, kind(k.Key), ssh.FingerprintSHA256(k.Key)))
		files = appendNew(files, k.Filename)
	}
	var remove []string
	for _, f := range files {
		remove = append(remove, fmt.Sprintf("ssh-keygen -R %s -f %s", quote(xknownhosts.Normalize(h.addr)), quote(f)))
	}
	return WithHint(fmt.Errorf("%w: the host key of %s has changed: %s; the server now shows the %s", ErrHostKey,
		h.t.addr(), strings.Join(lines, ", "), shown),
		fmt.Sprintf("someone may stand in between. Only if the archive host's administrator confirms the new fingerprint: %s && %s",
			strings.Join(remove, " && "), h.pin()))
}

// pin returns the command that trusts the server's present keys.
func (h *knownHosts) pin() string {
	cmd := "ssh-keyscan "
	if h.t.port != "22" {
		cmd += "-p " + h.t.port + " "
	}
	cmd += quote(h.t.host)
	if h.t.alias != "" {
		cmd += " | sed " + quote("s/^[^ ]*/"+h.t.alias+"/")
	}
	if len(h.t.knownHosts) == 0 {
		return cmd
	}
	file := h.t.knownHosts[0]
	if _, err := os.Stat(filepath.Dir(file)); err != nil {
		cmd = "mkdir -p -m 700 " + quote(filepath.Dir(file)) + " && " + cmd
	}
	return cmd + " >> " + quote(file)
}

// kind names a key's type as OpenSSH's tools do.
func kind(key ssh.PublicKey) string {
	switch t := key.Type(); {
	case strings.HasPrefix(t, "ssh-ed25519"):
		return "ED25519"
	case strings.HasPrefix(t, "ecdsa-"):
		return "ECDSA"
	case strings.HasPrefix(t, "ssh-rsa"):
		return "RSA"
	default:
		return t
	}
}

// quote makes s one word of a shell command.
func quote(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:@%,", r))
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// secureHostKeys are the kinds of host keys that are accepted, without SHA-1
// and DSA, in the order in which they are asked for.
func secureHostKeys() []string {
	return []string{ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
		ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
}

// secureHostCerts are the same for host certificates.
func secureHostCerts() []string {
	return []string{ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01,
		ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01}
}

// appendNew appends those of more that are not in list.
func appendNew(list []string, more ...string) []string {
	for _, m := range more {
		if !slices.Contains(list, m) {
			list = append(list, m)
		}
	}
	return list
}
