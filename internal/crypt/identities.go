package crypt

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"golang.org/x/crypto/ssh"
)

// Classes of errors.
var (
	// ErrIdentity is an identity file that cannot be used.
	ErrIdentity = errors.New("identity file")
	// ErrNoKey is an encrypted file that nothing here opens.
	ErrNoKey = errors.New("it is encrypted")
)

// Keys are the identities that open encrypted files. They are read from their
// file when the first encrypted file is met, so that an archive without any
// never needs them, and again when the file has changed since. A nil Keys has
// none. It may be used concurrently.
type Keys struct {
	path string

	mu   sync.Mutex
	ids  []age.Identity
	seen fs.FileInfo // the file as it was when ids were read; nil: not read from one
}

// NewKeys returns the identities of the file path; nil if path is "".
func NewKeys(path string) *Keys {
	if path == "" {
		return nil
	}
	return &Keys{path: path}
}

// KeysOf has the identities that it is given.
func KeysOf(ids ...age.Identity) *Keys {
	return &Keys{ids: ids}
}

// Path is where they are read from; "" of nil.
func (k *Keys) Path() string {
	if k == nil {
		return ""
	}
	return k.path
}

// Identities returns what the file holds. Without a file the error wraps
// ErrNoKey, with one that cannot be used ErrIdentity.
func (k *Keys) Identities() ([]age.Identity, error) {
	if k == nil {
		return nil, fmt.Errorf("%w, and no identity_file is set", ErrNoKey)
	}
	if k.path == "" {
		return k.ids, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	now, err := os.Stat(k.path)
	if err == nil && k.seen != nil && os.SameFile(now, k.seen) && now.ModTime().Equal(k.seen.ModTime()) && now.Size() == k.seen.Size() && now.Mode() == k.seen.Mode() {
		return k.ids, nil
	}
	k.seen = nil
	if k.ids, err = ReadIdentities(k.path); err == nil {
		k.seen = now
	}
	return k.ids, err
}

// ReadIdentities reads a file as age -i takes it: age's secret keys, one in each
// line, or one ssh private key. The file must be nobody's business but its
// user's, as with ssh: an owner other than root gives nobody else any access, and
// one of root's may be readable to its group. A key that is protected by a
// passphrase is refused, as nobody is there to type it. An error wraps
// ErrIdentity, is no fs.ErrNotExist, and shows nothing of the content.
func ReadIdentities(path string) ([]age.Identity, error) {
	bad := func(format string, args ...any) ([]age.Identity, error) {
		return nil, fmt.Errorf("%w %s: %s", ErrIdentity, path, fmt.Sprintf(format, args...))
	}
	f, err := os.Open(path)
	if err != nil {
		var p *fs.PathError
		if errors.As(err, &p) {
			err = p.Err
		}
		return bad("%v", err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return bad("%v", err)
	case !info.Mode().IsRegular():
		return bad("it is no ordinary file")
	case info.Size() > maxFile:
		return bad("it is larger than %d bytes", maxFile)
	}
	if mode := info.Mode().Perm(); mode&^allowed(info) != 0 {
		return bad("others may read it (mode %04o): chmod 600", mode)
	}
	data := make([]byte, info.Size())
	defer clear(data)
	n, err := f.ReadAt(data, 0)
	if err != nil && n < len(data) {
		return bad("%v", err)
	}
	text := bytes.TrimSpace(data)
	switch {
	case bytes.HasPrefix(text, []byte("age-encryption.org/")), bytes.HasPrefix(text, []byte("-----BEGIN AGE ENCRYPTED FILE-----")):
		return bad("it is protected by a passphrase, which nobody is there to type: age -d makes the plain file of it")
	case bytes.HasPrefix(text, []byte("-----BEGIN")):
		id, err := agessh.ParseIdentity(data)
		if missing := (*ssh.PassphraseMissingError)(nil); errors.As(err, &missing) {
			return bad("the ssh key is protected by a passphrase, which nobody is there to type: ssh-keygen -p takes it away, from a copy of the key")
		}
		if err != nil {
			return bad("no ssh key that age can use (ed25519, rsa): %v", err)
		}
		return []age.Identity{id}, nil
	}
	ids, err := parseIdentities(string(text))
	if err != nil {
		return bad("%v", err)
	}
	return ids, nil
}

// parseIdentities reads age's secret keys. Its errors name lines, not what is in
// them.
func parseIdentities(text string) (ids []age.Identity, err error) {
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		var id age.Identity
		var err error
		switch {
		case line == "" || line[0] == '#':
			continue
		case strings.HasPrefix(line, "AGE-SECRET-KEY-PQ-1"):
			id, err = age.ParseHybridIdentity(line)
		case strings.HasPrefix(line, "AGE-SECRET-KEY-1"):
			id, err = age.ParseX25519Identity(line)
		case strings.HasPrefix(line, "AGE-PLUGIN-"):
			return nil, fmt.Errorf("line %d is of a plugin, which walship does not start", i+1)
		case strings.HasPrefix(line, "age1"), strings.HasPrefix(line, "ssh-"):
			return nil, fmt.Errorf("line %d is a recipient, the public key: the identity is the secret one", i+1)
		default:
			err = errors.New("not a key")
		}
		if err != nil {
			return nil, fmt.Errorf("line %d is not a secret key of age's", i+1)
		}
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return nil, errors.New("it holds no key")
	}
	return ids, nil
}
