package transport

import (
	"encoding/base64"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"walship/internal/testsshd"
)

// Whatever ssh -G prints, what is taken from it is whole, and a proxy, which
// would be passed over, is refused.
func FuzzSSHConfig(f *testing.F) {
	for _, s := range []string{
		"hostname backup\nuser wal\nport 2222\nidentityfile ~/.ssh/id_ed25519\nidentityfile none\nuserknownhostsfile ~/.ssh/known_hosts /x\n",
		"proxyjump jump\n", "proxycommand none\nproxyjump none\n", "identityagent SSH_AUTH_SOCK\nhostkeyalias a\nidentitiesonly yes\n",
		"identityagent ${X}\r\n", "hostname", "userknownhostsfile none\nglobalknownhostsfile %d/%h/%p/%r/%%\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, out string) {
		as := target{host: "h", port: "22", user: "u"}
		err := as.read(out, "h", "/home/u/.ssh/config", "/home/u")
		proxied := false
		for line := range strings.Lines(out) {
			key, value, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
			proxied = proxied || (key == "proxyjump" || key == "proxycommand") && value != "" && value != "none"
		}
		if proxied != (err != nil) || err != nil && !errors.Is(err, ErrConfig) {
			t.Errorf("%q: %v", out, err)
		}
		if as.host == "" || as.port == "" || as.user == "" || slices.Contains(as.knownHosts, "none") {
			t.Errorf("%q: %+v", out, as)
		}
	})
}

// Whatever a known_hosts file holds: a key is trusted only if the file holds that
// key, and only algorithms are asked for that are not broken.
func FuzzKnownHosts(f *testing.F) {
	pinned, _ := testsshd.NewKey(f, "pinned", "")
	stranger, _ := testsshd.NewKey(f, "stranger", "")
	line := string(ssh.MarshalAuthorizedKey(pinned.PublicKey()))
	for _, s := range []string{
		"", "h " + line, "[h]:22 " + line, "* " + line, "!h,* " + line, "@revoked h " + line, "@cert-authority h " + line,
		"|1|CT4BHTqGsk9mGWwXWVzZCYLRCDs=|mIbPBfYRoA2SpXQrsQTUyvCjWNI= " + line, "h ssh-rsa AAAA", "# comment\n\nh " + line + "h " + line, "h",
	} {
		f.Add(s)
	}
	file := filepath.Join(f.TempDir(), "known_hosts")
	secure := append(append(secureHostKeys(), secureHostCerts()...), ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSASHA512)
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		h, err := readKnownHosts(target{host: "h", port: "22", user: "u", knownHosts: []string{file}})
		if err != nil {
			if !errors.Is(err, ErrConfig) {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		for _, a := range h.algorithms() {
			if !slices.Contains(secure, a) {
				t.Errorf("%q: asks for %s", text, a)
			}
		}
		addr := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 22}
		for _, key := range []ssh.PublicKey{pinned.PublicKey(), stranger.PublicKey()} {
			err := h.check("h:22", addr, key)
			if there := strings.Contains(text, base64.StdEncoding.EncodeToString(key.Marshal())); err == nil && !there {
				t.Errorf("%q: an unknown key is trusted", text)
			}
			if untrusted := (*hostKeyError)(nil); err != nil && !errors.As(err, &untrusted) {
				t.Errorf("%q: %v", text, err)
			}
		}
	})
}
