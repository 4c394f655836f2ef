package crypt

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
)

const (
	secret    = "AGE-SECRET-KEY-1UFDAKGTKHA7DEDVNUVC2FS3G8SDSC04QDNYZ58M7RGLE0CQ2W0SQ2FW49W"
	edKey     = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEhC4mlgTO5Tf/Kq8vPKXFkaFOjVKJB8ZpOYDIRRD7/V"
	encrypted = "age-encryption.org/v1\n-> scrypt AAAA 18\nAAAA\n"
)

func public(t testing.TB) string {
	id, err := age.ParseX25519Identity(secret)
	if err != nil {
		t.Fatal(err)
	}
	return id.Recipient().String()
}

func TestParseRecipients(t *testing.T) {
	x := public(t)
	pq, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	r, err := ParseRecipients([]string{x, " " + x + "\n", edKey + " joe@example.com", edKey})
	if err != nil || len(r.Texts()) != 2 || r.Texts()[0] != x || r.Texts()[1] != edKey {
		t.Errorf("%q, %v", r.Texts(), err)
	}
	if r, err := ParseRecipients([]string{pq.Recipient().String()}); err != nil || len(r.Texts()) != 1 {
		t.Errorf("%v", err)
	}
	if r, err := ParseRecipients(nil); r != nil || err != nil {
		t.Errorf("none: %v, %v", r, err)
	}
	var many []string
	for range MaxRecipients + 1 {
		id, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		many = append(many, id.Recipient().String())
	}
	if _, err := ParseRecipients(many[1:]); err != nil {
		t.Errorf("%d: %v", MaxRecipients, err)
	}
	for _, c := range []struct {
		texts []string
		says  string
	}{
		{many, "more than 20"},
		{[]string{""}, "empty"},
		{[]string{"joe"}, "no known kind"},
		{[]string{x[:len(x)-1]}, "not whole"},
		{[]string{x + "q"}, "not whole"},
		{[]string{pq.Recipient().String()[:900]}, "not whole"},
		{[]string{"age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t"}, "plugin"},
		{[]string{secret}, "secret key"},
		{[]string{strings.ToLower(secret)}, "secret key"},
		{[]string{"-----BEGIN OPENSSH PRIVATE KEY-----"}, "secret key"},
		{[]string{pq.String()}, "secret key"},
		{[]string{"ssh-ed25519 AAAA"}, "want an ssh-ed25519 key"},
		{[]string{x, pq.Recipient().String()}, "do not go together"},
	} {
		_, err := ParseRecipients(c.texts)
		if !errors.Is(err, ErrRecipients) || !strings.Contains(fmt.Sprint(err), c.says) || strings.Contains(fmt.Sprint(err), "\n") {
			t.Errorf("%.30q: %v, want %q", c.texts[0], err, c.says)
		}
		if s := strings.ToUpper(fmt.Sprint(err)); strings.Contains(s, "UFDAKGTKHA7") || strings.Contains(s, pq.String()[24:40]) {
			t.Errorf("the message shows the key: %v", err)
		}
	}
}

func TestRecipientSets(t *testing.T) {
	parse := func(texts ...string) *Recipients {
		r, err := ParseRecipients(texts)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	x := public(t)
	a, b, ab, ba := parse(x), parse(edKey), parse(x, edKey), parse(edKey+" comment", x)
	for _, c := range []struct {
		one, other *Recipients
		same       bool
		beyond     int
	}{
		{a, a, true, 0}, {a, b, false, 1}, {ab, ba, true, 0}, {a, ab, false, 0}, {ab, a, false, 1}, {nil, nil, true, 0}, {nil, a, false, 0}, {a, nil, false, 1},
	} {
		if got := c.one.Same(c.other); got != c.same {
			t.Errorf("%q and %q: same %v", c.one.Texts(), c.other.Texts(), got)
		}
		if got := c.one.Beyond(c.other); len(got) != c.beyond {
			t.Errorf("%q beyond %q: %q", c.one.Texts(), c.other.Texts(), got)
		}
	}
}

func TestReadRecipients(t *testing.T) {
	path := filepath.Join(t.TempDir(), "recipients.txt")
	read := func(text string) ([]string, error) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return ReadRecipients(path)
	}
	if got, err := read("# ours\n\n" + public(t) + "\r\n" + edKey + " joe\n"); err != nil || len(got) != 2 {
		t.Errorf("%q, %v", got, err)
	}
	for text, says := range map[string]string{"": "names none", "# nobody\n": "names none", "#\nage1x\n": "line 2", secret: "secret key"} {
		if _, err := read(text); !errors.Is(err, ErrRecipients) || !strings.Contains(fmt.Sprint(err), says) {
			t.Errorf("%.20q: %v, want %q", text, err, says)
		}
	}
	if _, err := ReadRecipients(path + ".no"); !errors.Is(err, ErrRecipients) {
		t.Error(err)
	}
}

func TestReadIdentities(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.txt")
	read := func(text string, mode os.FileMode) ([]age.Identity, error) {
		os.Remove(path)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil { // whatever the umask
			t.Fatal(err)
		}
		return ReadIdentities(path)
	}
	pq, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	text := "# created: 2026-01-02\n# public key: " + public(t) + "\n" + secret + "\n\n" + pq.String() + "\n"
	for _, mode := range []os.FileMode{0o600, 0o400} {
		if ids, err := read(text, mode); err != nil || len(ids) != 2 {
			t.Errorf("mode %o: %d identities, %v", mode, len(ids), err)
		}
	}
	for _, mode := range []os.FileMode{0o644, 0o604, 0o620, 0o660} {
		if _, err := read(text, mode); !errors.Is(err, ErrIdentity) || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	if _, err := read(text, 0o640); (err == nil) != (os.Geteuid() == 0) { // one of root's may be its group's
		t.Errorf("mode 640: %v", err)
	}
	for text, says := range map[string]string{
		"":           "no key",
		"# nothing":  "no key",
		"joe\n":      "line 1",
		public(t):    "a recipient",
		encrypted:    "passphrase",
		secret[:60]:  "line 1",
		"-----BEGIN": "no ssh key",
		"AGE-PLUGIN-YUBIKEY-1QQPSGQQCTTQQQQQJYRL6U": "plugin",
		"-----BEGIN AGE ENCRYPTED FILE-----\nAAAA":  "passphrase",
	} {
		_, err := read(text, 0o600)
		if !errors.Is(err, ErrIdentity) || !strings.Contains(fmt.Sprint(err), says) || !strings.Contains(fmt.Sprint(err), path) || strings.Contains(fmt.Sprint(err), "UFDAKGTKHA7") {
			t.Errorf("%.24q: %v, want %q", text, err, says)
		}
	}
	for _, bad := range []string{filepath.Join(path, "no"), path + ".no", filepath.Dir(path)} {
		if _, err := ReadIdentities(bad); !errors.Is(err, ErrIdentity) || errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestShort(t *testing.T) {
	x := public(t)
	for text, want := range map[string]string{x: x[:12] + "…" + x[len(x)-8:], edKey + " joe": "ssh-ed25519 …DIRRD7/V", "age1x": "age1x", "": ""} {
		if got := Short(text); got != want {
			t.Errorf("%.20s: %q, want %q", text, got, want)
		}
	}
}

// A file that has got a new key is read anew: an agent goes on for days.
func TestKeysChange(t *testing.T) {
	next, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.txt")
	keys := NewKeys(path)
	if _, err := keys.Identities(); !errors.Is(err, ErrIdentity) {
		t.Errorf("no file yet: %v", err)
	}
	for i, text := range []string{secret, secret + "\n" + next.String(), next.String() + "\n" + secret + "\n# twice as long, so that its size differs"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if ids, err := keys.Identities(); err != nil || len(ids) != min(i+1, 2) {
				t.Errorf("%d: %d identities, %v", i, len(ids), err)
			}
		}
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Identities(); !errors.Is(err, ErrIdentity) {
		t.Errorf("others may read it: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if ids, err := keys.Identities(); !errors.Is(err, ErrIdentity) {
		t.Errorf("gone: %d identities, %v", len(ids), err)
	}
}
