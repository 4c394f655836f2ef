// Package crypt knows the keys of age (age-encryption.org/v1): recipients, to
// whom files are encrypted, and identities, which open them. Whoever pushes has
// recipients alone and can open nothing. The package makes no keys, asks for no
// passphrase and starts no plugin.
package crypt

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"golang.org/x/crypto/ssh"
)

// MaxRecipients bounds the recipients of an archive: those of the largest kind
// have 2 KB of text, and walship.json holds them all.
const MaxRecipients = 20

// ErrRecipients is a list of recipients that cannot be used.
var ErrRecipients = errors.New("recipients")

// Recipients are to whom files are encrypted: each of them can open all. They
// may be used concurrently.
type Recipients struct {
	texts  []string
	all    []age.Recipient
	labels []string // that all of them have, for age's RecipientWithLabels
}

// ParseRecipients reads recipients as age -r takes them: age1… (X25519),
// age1pq1… (post-quantum hybrid), "ssh-ed25519 …" and "ssh-rsa …". Plugins are
// refused, as what they need would have to be on every machine. Post-quantum
// recipients and others do not go together. No recipients at all are nil. An
// error wraps ErrRecipients and never shows what may be a secret key.
func ParseRecipients(texts []string) (*Recipients, error) {
	r := &Recipients{}
	for _, text := range texts {
		canonical, one, err := parseRecipient(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrRecipients, err)
		}
		if !slices.Contains(r.texts, canonical) {
			r.texts, r.all = append(r.texts, canonical), append(r.all, one)
		}
	}
	if len(r.all) == 0 {
		return nil, nil
	}
	if len(r.all) > MaxRecipients {
		return nil, fmt.Errorf("%w: %d are more than %d", ErrRecipients, len(r.all), MaxRecipients)
	}
	for i, one := range r.all {
		labels, err := labelsOf(one)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrRecipients, Short(r.texts[i]), err)
		}
		if i > 0 && !slices.Equal(labels, r.labels) {
			return nil, fmt.Errorf("%w: %s and %s do not go together: with one recipient that is not post-quantum the file would not be", ErrRecipients, Short(r.texts[0]), Short(r.texts[i]))
		}
		r.labels = labels
	}
	return r, nil
}

// parseRecipient returns the recipient's one way to be written, and itself.
func parseRecipient(text string) (canonical string, r age.Recipient, err error) {
	lower := strings.ToLower(text)
	switch {
	case strings.HasPrefix(lower, "age-secret-key-"), strings.HasPrefix(lower, "age-plugin-"), strings.HasPrefix(text, "-----BEGIN"):
		return "", nil, errors.New("one is a secret key: a recipient is the public one, which age-keygen -y shows")
	case strings.HasPrefix(lower, "age1pq1"):
		if r, err := age.ParseHybridRecipient(text); err == nil {
			return r.String(), r, nil
		}
		return "", nil, fmt.Errorf("%s is not whole: a digit is wrong or missing", Short(text))
	case strings.HasPrefix(lower, "age1") && strings.Count(lower, "1") > 1 && !strings.HasPrefix(lower, "age11"):
		return "", nil, fmt.Errorf("%s is one of a plugin, which walship does not start", Short(text))
	case strings.HasPrefix(lower, "age1"):
		if r, err := age.ParseX25519Recipient(text); err == nil {
			return r.String(), r, nil
		}
		return "", nil, fmt.Errorf("%s is not whole: a digit is wrong or missing", Short(text))
	case strings.HasPrefix(text, "ssh-"):
		r, err := agessh.ParseRecipient(text)
		if err != nil {
			return "", nil, fmt.Errorf("%s: want an ssh-ed25519 key or an ssh-rsa key of at least 2048 bits: %w", Short(text), err)
		}
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(text))
		if err != nil {
			return "", nil, fmt.Errorf("%s: %w", Short(text), err)
		}
		return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))), r, nil
	case text == "":
		return "", nil, errors.New("one is empty")
	}
	return "", nil, errors.New(`one is of no known kind: want age1…, age1pq1…, "ssh-ed25519 …" or "ssh-rsa …"`)
}

func labelsOf(r age.Recipient) ([]string, error) {
	l, ok := r.(age.RecipientWithLabels)
	if !ok {
		return nil, nil
	}
	_, labels, err := l.WrapWithLabels(make([]byte, 16))
	slices.Sort(labels)
	return labels, err
}

// Texts are the recipients as age -r takes them, without comments; none of nil.
func (r *Recipients) Texts() []string {
	if r == nil {
		return nil
	}
	return slices.Clone(r.texts)
}

// Age are the recipients for age.Encrypt, and the labels that they have; none of
// nil.
func (r *Recipients) Age() ([]age.Recipient, []string) {
	if r == nil {
		return nil, nil
	}
	return slices.Clone(r.all), slices.Clone(r.labels)
}

// Same reports whether both have the same recipients, in any order.
func (r *Recipients) Same(other *Recipients) bool {
	return len(r.Texts()) == len(other.Texts()) && len(r.Beyond(other)) == 0
}

// Beyond lists those that other has not.
func (r *Recipients) Beyond(other *Recipients) []string {
	known := other.Texts()
	return slices.DeleteFunc(r.Texts(), func(text string) bool { return slices.Contains(known, text) })
}

// maxFile bounds a file of recipients or identities, in bytes.
const maxFile = 1 << 20

// ReadRecipients reads a file as age -R takes it: one recipient in each line,
// empty lines and those that begin with # aside.
func ReadRecipients(path string) ([]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRecipients, err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%w: %s is larger than %d bytes", ErrRecipients, path, maxFile)
	}
	var texts []string
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if _, _, err := parseRecipient(line); err != nil {
			return nil, fmt.Errorf("%w: %s, line %d: %w", ErrRecipients, path, i+1, err)
		}
		texts = append(texts, line)
	}
	if len(texts) == 0 {
		return nil, fmt.Errorf("%w: %s names none", ErrRecipients, path)
	}
	return texts, nil
}

// Short is a recipient as a message names it: its beginning and its end.
func Short(text string) string {
	kind, key, isSSH := strings.Cut(text, " ")
	if isSSH {
		key, _, _ = strings.Cut(key, " ")
		return kind + " …" + key[max(0, len(key)-8):]
	}
	if len(text) <= 24 {
		return text
	}
	return text[:12] + "…" + text[len(text)-8:]
}
