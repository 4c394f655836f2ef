package transport

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// keyring is what one login has to show.
type keyring struct {
	candidates []candidate
	skipped    []string // keys that could not be used, each with the reason
	advice     string   // the hint that came with the first of them
	explicit   bool     // the user named the one key
	agent      net.Conn // nil without agent
	stop       func() bool

	mu      sync.Mutex
	tried   []candidate
	allowed []string // methods that the server would take, as it said last
	partial []string // methods that it has taken already
}

// candidate is a key that can sign.
type candidate struct {
	signer ssh.Signer
	name   string // path, or the agent's comment
}

func (c candidate) String() string {
	return fmt.Sprintf("%s (%s %s)", c.name, kind(c.signer.PublicKey()), ssh.FingerprintSHA256(c.signer.PublicKey()))
}

// keyFile is one file of a private key.
type keyFile struct {
	path   string
	signer ssh.Signer    // nil if only the agent can sign
	public ssh.PublicKey // nil if the file does not tell
	err    error         // why there is no signer
}

// readKeys collects the keys for t. The agent is left alone when the one key
// that was named can sign by itself.
func readKeys(ctx context.Context, t target, o SSH) (*keyring, error) {
	k := &keyring{explicit: o.KeyFile != ""}
	var files []keyFile
	for _, path := range t.keys {
		f := readKeyFile(path)
		if errors.Is(f.err, fs.ErrNotExist) && !k.explicit {
			continue
		}
		files = append(files, f)
	}
	if k.explicit {
		f := files[0]
		if f.signer != nil {
			k.candidates = []candidate{{f.signer, f.path}}
			return k, nil
		}
		if f.public == nil {
			return nil, f.err
		}
	}
	held, err := k.askAgent(ctx, t.agent, o.silence())
	if err != nil {
		k.skipped = append(k.skipped, fmt.Sprintf("the agent at %s (%v)", t.agent, err))
	}

	// In ssh's order: the files' keys that the agent holds, its others, the
	// remaining files.
	var rest []candidate
	for _, f := range files {
		if i := indexKey(held, f.public); i >= 0 {
			k.candidates = append(k.candidates, candidate{held[i].signer, f.path + " through the agent"})
			held = slices.Delete(held, i, i+1)
		} else if f.signer != nil {
			rest = append(rest, candidate{f.signer, f.path})
		} else if k.explicit {
			k.close()
			return nil, f.err
		} else {
			k.skipped = append(k.skipped, strings.TrimPrefix(strings.TrimPrefix(f.err.Error(), ErrConfig.Error()+": "), ErrLogin.Error()+": "))
			if k.advice == "" {
				k.advice = Hint(f.err)
			}
		}
	}
	if !t.onlyKeys {
		k.candidates = append(k.candidates, held...)
	}
	k.candidates = append(k.candidates, rest...)
	if len(k.candidates) == 0 {
		k.close()
		return nil, k.nothing(t)
	}
	return k, nil
}

func indexKey(list []candidate, key ssh.PublicKey) int {
	if key == nil {
		return -1
	}
	return slices.IndexFunc(list, func(c candidate) bool {
		return bytes.Equal(c.signer.PublicKey().Marshal(), key.Marshal())
	})
}

// nothing is the error when there is no key at all.
func (k *keyring) nothing(t target) error {
	text := fmt.Sprintf("%s: no key to log in as %s", t.addr(), t.user)
	if len(k.skipped) > 0 {
		text += "; unusable: " + strings.Join(k.skipped, ", ")
	} else {
		text += "; looked for " + strings.Join(t.keys, ", ")
		if t.agent != "" {
			text += " and in the agent at " + t.agent
		}
	}
	advice := k.advice
	if advice == "" {
		advice = "name the private key with --ssh-key"
	}
	return WithHint(fmt.Errorf("%w: %s", ErrLogin, text), advice)
}

// readKeyFile reads path. A file that others can read is refused, as ssh does.
func readKeyFile(path string) keyFile {
	f := keyFile{path: path}
	fail := func(hint, format string, args ...any) keyFile {
		f.err = fmt.Errorf("%w: private key %s %w", ErrConfig, path, fmt.Errorf(format, args...))
		if hint != "" {
			f.err = WithHint(f.err, hint)
		}
		return f
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fail("", "%w", said{"does not exist", fs.ErrNotExist})
	}
	if err == nil && !info.Mode().IsRegular() {
		return fail("", "is not a file")
	}
	content, readErr := os.ReadFile(path)
	if err = errors.Join(err, readErr); err != nil {
		_, me := whoami()
		if errors.Is(err, fs.ErrPermission) {
			return fail(fmt.Sprintf("it has to belong to the account that runs PostgreSQL: chown %s %s", me, quote(path)), "cannot be read: %w", said{"permission denied to " + me, fs.ErrPermission})
		}
		return fail("", "cannot be read: %w", err)
	}
	defer clear(content)
	if pub, _, _, _, err := ssh.ParseAuthorizedKey(content); err == nil && !bytes.Contains(content, []byte("PRIVATE KEY")) {
		f.public = pub
		return fail("give the private key, usually "+strings.TrimSuffix(path, ".pub"), "holds a public key, and the agent does not have its private half")
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) == os.Getuid() && info.Mode().Perm()&0o077 != 0 {
		return fail("chmod 600 "+quote(path), "can be read by others (mode %04o), as ssh too refuses", info.Mode().Perm())
	}
	signer, err := ssh.ParsePrivateKey(content)
	var locked *ssh.PassphraseMissingError
	if block, _ := pem.Decode(content); err != nil && block != nil && block.Type == "ENCRYPTED PRIVATE KEY" {
		locked = &ssh.PassphraseMissingError{}
	}
	switch {
	case locked != nil || errors.As(err, &locked):
		if f.public = locked.PublicKey; f.public == nil {
			f.public = publicHalf(path)
		}
		f.err = WithHint(fmt.Errorf("%w: private key %s is protected by a passphrase, and no agent holds it", ErrLogin, path),
			"load it into an ssh-agent that walship can reach (SSH_AUTH_SOCK), or use a key without a passphrase")
	case bytes.HasPrefix(content, []byte("PuTTY-User-Key-File")):
		return fail(fmt.Sprintf("convert it: puttygen %s -O private-openssh -o id_archive", quote(path)), "is in PuTTY's format")
	case err != nil:
		return fail("", "is not a private key that can be read: %s", strings.TrimPrefix(err.Error(), "ssh: "))
	default:
		f.signer, f.public = withoutSHA1(signer), signer.PublicKey()
	}
	return f
}

// publicHalf reads the .pub file beside a private key.
func publicHalf(path string) ssh.PublicKey {
	content, err := os.ReadFile(path + ".pub")
	if err != nil {
		return nil
	}
	pub, _, _, _, err := ssh.ParseAuthorizedKey(content)
	if err != nil {
		return nil
	}
	return pub
}

// withoutSHA1 keeps an RSA key from signing as ssh-rsa.
func withoutSHA1(s ssh.Signer) ssh.Signer {
	as, ok := s.(ssh.AlgorithmSigner)
	if t := s.PublicKey().Type(); !ok || t != ssh.KeyAlgoRSA && t != ssh.CertAlgoRSAv01 {
		return s
	}
	if only, err := ssh.NewSignerWithAlgorithms(as, []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}); err == nil {
		return only
	}
	return s
}

// askAgent returns the keys of the agent at socket. The connection stays, for
// signing, and ends by itself when the agent is silent too long, or with ctx.
func (k *keyring) askAgent(ctx context.Context, socket string, silence time.Duration) ([]candidate, error) {
	if socket == "" {
		return nil, nil
	}
	d := net.Dialer{Timeout: silence}
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	k.agent = &impatient{conn, silence}
	k.stop = context.AfterFunc(ctx, func() { conn.Close() })
	client := agent.NewClient(k.agent)
	signers, err := client.Signers()
	if err != nil {
		return nil, err
	}
	names := map[string]string{}
	if listed, err := client.List(); err == nil {
		for _, key := range listed {
			names[string(key.Marshal())] = key.Comment
		}
	}
	var list []candidate
	for _, s := range signers {
		name := oneLine(names[string(s.PublicKey().Marshal())])
		list = append(list, candidate{withoutSHA1(s), fmt.Sprintf("agent's key %q", name)})
	}
	return list, nil
}

// impatient is a connection of which each read and write ends in time.
type impatient struct {
	net.Conn
	silence time.Duration
}

func (c *impatient) Read(p []byte) (int, error) {
	c.SetReadDeadline(time.Now().Add(c.silence))
	return c.Conn.Read(p)
}

func (c *impatient) Write(p []byte) (int, error) {
	c.SetWriteDeadline(time.Now().Add(c.silence))
	return c.Conn.Write(p)
}

// close ends the connection to the agent.
func (k *keyring) close() {
	if k.agent != nil {
		k.stop()
		k.agent.Close()
	}
}

// signers hands the keys to x/crypto/ssh, which asks each for its public half
// when its turn comes.
func (k *keyring) signers() ([]ssh.Signer, error) {
	var list []ssh.Signer
	for _, c := range k.candidates {
		list = append(list, k.noted(c))
	}
	return list, nil
}

func (k *keyring) noted(c candidate) ssh.Signer {
	note := func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if indexKey(k.tried, c.signer.PublicKey()) < 0 {
			k.tried = append(k.tried, c)
		}
	}
	switch s := c.signer.(type) {
	case ssh.MultiAlgorithmSigner:
		return notedMulti{s, note}
	case ssh.AlgorithmSigner:
		return notedAlgorithm{s, note}
	}
	return c.signer
}

// notedMulti and notedAlgorithm tell when a key is offered.
type notedMulti struct {
	ssh.MultiAlgorithmSigner
	note func()
}

type notedAlgorithm struct {
	ssh.AlgorithmSigner
	note func()
}

func (n notedMulti) PublicKey() ssh.PublicKey {
	n.note()
	return n.MultiAlgorithmSigner.PublicKey()
}

func (n notedAlgorithm) PublicKey() ssh.PublicKey {
	n.note()
	return n.AlgorithmSigner.PublicKey()
}

// watch is the ssh.ClientAuthCallback: it leaves the choice as it is and
// remembers what the server offers.
func (k *keyring) watch(c *ssh.ClientAuthContext) (ssh.AuthMethod, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.allowed, k.partial = c.AllowedMethods, c.PartialSuccessMethods
	return nil, nil
}

// refused puts a refused login into words.
func (k *keyring) refused(err error, t target) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var keys []string
	for _, c := range k.tried {
		keys = append(keys, c.String())
	}
	text := fmt.Sprintf("%s does not let user %s in", t.addr(), t.user)
	switch {
	case len(keys) == 0 && len(k.allowed) > 0:
		text += ": it takes no keys"
	case len(keys) == 1:
		text += " with the key " + keys[0]
	case len(keys) > 1:
		text += fmt.Sprintf(" with any of %d keys: %s", len(keys), strings.Join(keys, ", "))
	}
	if len(k.allowed) > 0 {
		text += "; it offers " + strings.Join(k.allowed, ", ")
	}
	if len(k.skipped) > 0 {
		text += "; not usable: " + strings.Join(k.skipped, ", ")
	}
	wrapped := fmt.Errorf("%w: %s", ErrLogin, text)
	switch _, said, disconnected := strings.Cut(err.Error(), "ssh: disconnect, reason "); {
	case len(k.partial) > 0:
		return fmt.Errorf("%w; it took the key and asks for more, which walship cannot give", wrapped)
	case disconnected && strings.Contains(said, "Too many"):
		return WithHint(fmt.Errorf("%w; it gave up: too many keys were offered", wrapped),
			"name the right one with --ssh-key")
	case disconnected:
		return fmt.Errorf("%w; it ended the connection: %s", wrapped, oneLine(said))
	case len(k.tried) == 0 && len(k.allowed) > 0:
		return wrapped
	case len(k.tried) == 0:
		return fmt.Errorf("%w (%s)", wrapped, strings.TrimPrefix(err.Error(), "ssh: handshake failed: ssh: "))
	}
	hint := fmt.Sprintf("on the archive host, add this line to authorized_keys of %s: %s", t.user,
		strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.tried[0].signer.PublicKey()))))
	if path, ok := strings.CutSuffix(k.tried[0].name, " through the agent"); ok || !strings.HasPrefix(path, "agent's key") {
		hint += fmt.Sprintf("; to see ssh's own view: ssh -v -i %s -p %s %s", quote(path), t.port, quote(t.user+"@"+t.host))
	}
	return WithHint(wrapped, hint)
}
