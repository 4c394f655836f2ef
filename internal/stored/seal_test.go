package stored

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"golang.org/x/crypto/ssh"

	"walship/internal/crypt"
)

// sealed returns the stored file of content for the recipients.
func sealed(t testing.TB, content []byte, told string, recipients ...string) []byte {
	t.Helper()
	to, err := crypt.ParseRecipients(recipients)
	if err != nil {
		t.Fatal(err)
	}
	var b buffer
	e := Encode(bytes.NewReader(content), Zstd.Sealed(), int64(len(content)))
	if err := e.WriteTo(&b, testRecord, Seal{To: to, Told: []byte(told)}); err != nil {
		t.Fatal(err)
	}
	return b.data
}

// unsealed reads a stored file with the keys of an identity file.
func unsealed(file []byte, keys *crypt.Keys) ([]byte, error) {
	c, err := Decode(Source(bytes.NewReader(file)), int64(len(file)), Zstd.Sealed(), 1<<30, keys)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return io.ReadAll(c)
}

// sshKey returns a recipient and the file of its identity.
func sshKey(t testing.TB, secret any, public any) (recipient, path string) {
	t.Helper()
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(secret, "")
	if err != nil {
		t.Fatal(err)
	}
	return string(ssh.MarshalAuthorizedKey(key)), keyFile(t, string(pem.EncodeToMemory(block)))
}

func keyFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A file is opened by the identity of each of its recipients, of every kind, by
// walship and by age, and by no other.
func TestRecipientKinds(t *testing.T) {
	content := text(300 << 10)
	x, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	pq, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	edPublic, edSecret, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edRecipient, edFile := sshKey(t, edSecret, edPublic)
	rsaSecret, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaRecipient, rsaFile := sshKey(t, rsaSecret, rsaSecret.Public())
	xFile, pqFile := keyFile(t, "# mine\n"+x.String()+"\n"), keyFile(t, testIdentity+"\n"+pq.String()+"\n")
	stranger := keyFile(t, testIdentity+"\n")

	for _, c := range []struct {
		what       string
		recipients []string
		identities []string
		tool       bool // Debian's age knows the kind
	}{
		{"X25519", []string{x.Recipient().String()}, []string{xFile}, true},
		{"ssh-ed25519", []string{edRecipient}, []string{edFile}, true},
		{"ssh-rsa", []string{rsaRecipient}, []string{rsaFile}, true},
		{"three kinds together", []string{x.Recipient().String(), edRecipient, rsaRecipient}, []string{xFile, edFile, rsaFile}, true},
		{"post-quantum hybrid", []string{pq.Recipient().String()}, []string{pqFile}, false},
	} {
		file := sealed(t, content, "", c.recipients...)
		for _, path := range c.identities {
			if got, err := unsealed(file, crypt.NewKeys(path)); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%s: %d bytes of %d, %v", c.what, len(got), len(content), err)
			}
			if !c.tool {
				continue
			}
			at := keyFile(t, string(file))
			out, err := exec.Command("sh", "-c", "age -d -i "+path+" "+at+" | zstd -dcq").Output()
			if err != nil || !bytes.Equal(out, content) {
				t.Errorf("%s: age -d | zstd -dc gives %d bytes of %d, %v", c.what, len(out), len(content), err)
			}
		}
		for _, keys := range []*crypt.Keys{nil, crypt.NewKeys(stranger)} {
			if _, err := unsealed(file, keys); !errors.Is(err, crypt.ErrNoKey) || errors.Is(err, ErrDamaged) {
				t.Errorf("%s, opened with %q: %v", c.what, keys.Path(), err)
			}
		}
		if bytes.Contains(file, content[:64]) {
			t.Errorf("%s: the content lies in the file", c.what)
		}
	}
}

// regions names the parts of an encrypted file, by where each begins.
func regions(t testing.TB, file []byte) map[string][2]int {
	t.Helper()
	record := len(sealedIntro)
	mac := bytes.Index(file, []byte("\n--- ")) + len("\n--- ")
	if mac < record+recordSize {
		t.Fatal("no MAC")
	}
	nonce := mac + macSize + 1
	return map[string][2]int{
		"intro":      {0, record},
		"record":     {record, record + recordSize},
		"recipients": {record + recordSize, mac},
		"MAC":        {mac, mac + macSize},
		"nonce":      {nonce, nonce + nonceSize},
		"content":    {nonce + nonceSize, len(file)},
	}
}

// Whatever bit of an encrypted file is flipped, its content never comes back;
// and without the key all is noticed but what the MAC's own bits are.
func TestSealedDamage(t *testing.T) {
	content := text(200 << 10)
	id := identity().Recipient().String()
	file := sealed(t, content, "1\t0/3000000\n", id)
	keys := testKeys()
	if got, err := unsealed(file, keys); err != nil || !bytes.Equal(got, content) {
		t.Fatalf("the whole one: %v", err)
	}
	if _, err := CheckSealed(bytes.NewReader(file), int64(len(file))); err != nil {
		t.Fatalf("the whole one, without its key: %v", err)
	}
	for region, at := range regions(t, file) {
		step := max(1, (at[1]-at[0])*8/400)
		for bit := at[0] * 8; bit < at[1]*8; bit += step {
			bad := flipped(file, bit)
			got, err := unsealed(bad, keys)
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, crypt.ErrNoKey) || errors.Is(err, crypt.ErrNoKey) && region != "recipients" {
				t.Errorf("%s, bit %d: %d bytes, %v", region, bit, len(got), err)
			}
			_, err = CheckSealed(bytes.NewReader(bad), int64(len(bad)))
			if noticed := errors.Is(err, ErrDamaged); !noticed && region != "MAC" {
				t.Errorf("%s, bit %d, without the key: %v", region, bit, err)
			}
		}
	}
	for n := 0; n < len(file); n += 1 + n/40 {
		if _, err := unsealed(file[:n], keys); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
		if _, err := CheckSealed(bytes.NewReader(file[:n]), int64(n)); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut to %d bytes, without the key: %v", n, err)
		}
	}
	for _, tail := range [][]byte{{0}, make([]byte, 512), file} {
		longer := append(bytes.Clone(file), tail...)
		if _, err := unsealed(longer, keys); !errors.Is(err, ErrDamaged) {
			t.Errorf("%d bytes behind it: %v", len(tail), err)
		}
	}
}

// A record that was exchanged for another one is noticed: the header's MAC covers
// it, and so is content under another file's header.
func TestSealedRecordIsAuthenticated(t *testing.T) {
	id := identity().Recipient().String()
	one, other := text(5000), text(5000)
	other[7]++
	a, b := sealed(t, one, "", id), sealed(t, other, "", id)
	if len(a) != len(b) {
		t.Fatal("the lengths differ, so this tests nothing")
	}
	for region, at := range regions(t, a) {
		if region == "intro" {
			continue
		}
		mixed := bytes.Clone(a)
		copy(mixed[at[0]:at[1]], b[at[0]:at[1]])
		if _, err := unsealed(mixed, testKeys()); !errors.Is(err, ErrDamaged) {
			t.Errorf("the %s of another file: %v", region, err)
		}
	}
}

// What the header tells of a history comes back without the key, and the rest of
// the content does not.
func TestTold(t *testing.T) {
	id := identity().Recipient().String()
	secret := "1\t0/3000000\tbefore the bankruptcy of Example Ltd.\n"
	for _, n := range []int{1, 47, 48, 49, 63, 64, 96, 20000, maxTold} {
		told := string(text(n))
		file := sealed(t, []byte(secret), told, id)
		if got := Told(file); string(got) != told {
			t.Errorf("%d bytes told, %d come back", n, len(got))
		}
		if got, err := unsealed(file, testKeys()); err != nil || string(got) != secret {
			t.Errorf("%d bytes told: the content is %q, %v", n, got, err)
		}
		if strings.Contains(string(file), "bankruptcy") {
			t.Error("the content is told")
		}
	}
	for what, file := range map[string][]byte{
		"nothing": sealed(t, []byte(secret), "", id), "too much": sealed(t, []byte(secret), string(text(maxTold+1)), id),
		"another codec's": encode(t, Zstd, []byte(secret)), "an empty file": nil,
	} {
		if got := Told(file); got != nil {
			t.Errorf("%s: %d bytes are told", what, len(got))
		}
	}
}

// Nothing is written in the clear by a codec that encrypts, nor the other way
// round.
func TestSealMustFitTheCodec(t *testing.T) {
	for codec, seal := range map[Codec]Seal{Zstd.Sealed(): {}, Plain.Sealed(): {}, Zstd: sealFor(Zstd.Sealed()), Plain: sealFor(Zstd.Sealed())} {
		var b buffer
		if err := Encode(strings.NewReader("secret"), codec, 6).WriteTo(&b, testRecord, seal); err == nil || len(b.data) > 0 {
			t.Errorf("%s, with recipients %v: %v, %d bytes written", codec, seal.To != nil, err, len(b.data))
		}
	}
}

// The file key is wiped once the file is written.
func TestFileKeyIsWiped(t *testing.T) {
	s, err := newSealing(testRecord, sealFor(Zstd.Sealed()))
	if err != nil {
		t.Fatal(err)
	}
	if len(s.key) != 16 || bytes.Equal(s.key, make([]byte, 16)) {
		t.Fatalf("the file key is %d bytes", len(s.key))
	}
	s.wipe()
	if !bytes.Equal(s.key, make([]byte, 16)) {
		t.Error("it is not wiped")
	}
}

// A file under an encrypted name that is none, or none of walship's, is damaged.
func TestNotSealed(t *testing.T) {
	var foreign bytes.Buffer
	w, err := age.Encrypt(&foreign, identity().Recipient())
	if err != nil {
		t.Fatal(err)
	}
	w.Write(encode(t, Zstd, text(1000)))
	w.Close()
	for what, file := range map[string][]byte{"zstd": encode(t, Zstd, text(1000)), "plain": text(1000), "age's own": foreign.Bytes(), "empty": nil} {
		if _, err := CheckSealed(bytes.NewReader(file), int64(len(file))); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s, without the key: %v", what, err)
		}
		if what == "age's own" {
			continue // its content comes back, without a record, which who asked for one refuses
		}
		if _, err := unsealed(file, testKeys()); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// An ssh key of a kind that cannot encrypt is refused as a recipient.
func TestNoSuchRecipient(t *testing.T) {
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	recipient, _ := sshKey(t, secret, secret.Public())
	if _, err := crypt.ParseRecipients([]string{recipient}); !errors.Is(err, crypt.ErrRecipients) {
		t.Error(err)
	}
}

func FuzzTold(f *testing.F) {
	f.Add(sealed(f, []byte("x"), "1\t0/3000000\n", identity().Recipient().String()))
	f.Add([]byte(sealedIntro + strings.Repeat("x", recordSize) + "\n-> " + toldStanza + "\nAAAA\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		if told := Told(file); len(told) > maxTold+48 {
			t.Errorf("%d bytes", len(told))
		}
		if _, err := CheckSealed(bytes.NewReader(file), int64(len(file))); err != nil && !errors.Is(err, ErrDamaged) {
			t.Error(fmt.Errorf("%w", err))
		}
	})
}
