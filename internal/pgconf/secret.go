package pgconf

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"walship/internal/pgdata"
)

// NewPassword returns a random password of letters and digits, 190 bits strong:
// nothing in it needs a quote or an escape anywhere.
func NewPassword() string {
	const letters = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"
	out := make([]byte, 0, 32)
	for len(out) < cap(out) {
		var b [1]byte
		_, _ = rand.Read(b[:]) // never fails
		if int(b[0]) < 256/len(letters)*len(letters) {
			out = append(out, letters[int(b[0])%len(letters)])
		}
	}
	return string(out)
}

// Verifier returns what a server of that version stores of the password, so that
// the password itself is in no statement and in no log: a SCRAM secret from 10 on,
// an MD5 hash before.
func Verifier(v pgdata.Version, role, password string) (string, error) {
	if v < v10 {
		return md5Secret(role, password), nil
	}
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails
	return scramSecret(password, salt, 4096)
}

func md5Secret(role, password string) string {
	sum := md5.Sum([]byte(password + role))
	return "md5" + hex.EncodeToString(sum[:])
}

// scramSecret is PostgreSQL's form of RFC 5803: SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>.
// The password has to be ASCII, which SASLprep leaves as it is.
func scramSecret(password string, salt []byte, iterations int) (string, error) {
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		return "", err
	}
	stored := sha256.Sum256(mac(salted, "Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, b64(salt), b64(stored[:]), b64(mac(salted, "Server Key"))), nil
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// Verifies reports whether secret is what a server stores of that role's password.
func Verifies(secret, role, password string) bool {
	if strings.HasPrefix(secret, "md5") {
		return same(secret, md5Secret(role, password))
	}
	rest, ok := strings.CutPrefix(secret, "SCRAM-SHA-256$")
	head, _, ok2 := strings.Cut(rest, "$")
	count, salt64, ok3 := strings.Cut(head, ":")
	iterations, err := strconv.Atoi(count)
	salt, err2 := base64.StdEncoding.DecodeString(salt64)
	if !ok || !ok2 || !ok3 || err != nil || err2 != nil || iterations < 1 || iterations > 1<<24 {
		return false
	}
	own, err := scramSecret(password, salt, iterations)
	return err == nil && same(secret, own)
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// PassfileLine is the line of a password file that holds the role's password, for
// every server and database: a standby needs it for replication, pg_rewind for
// SQL, and after a failover both go to another host.
func PassfileLine(role, password string) string {
	return "*:*:*:" + escapePass(role) + ":" + escapePass(password)
}

func escapePass(s string) string { return strings.NewReplacer(`\`, `\\`, `:`, `\:`).Replace(s) }

// Password finds the role's password in a password file, in a line that holds for
// every server: what PassfileLine has written.
func Password(passfile []byte, role string) (password string, found bool) {
	for line := range strings.Lines(string(passfile)) {
		rest, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "*:*:*:"+escapePass(role)+":")
		if ok {
			return strings.NewReplacer(`\:`, `:`, `\\`, `\`).Replace(rest), true
		}
	}
	return "", false
}

// SetPassword returns the text of a password file with that password, in the place
// of an older one of the role's, else on a last line.
func SetPassword(passfile []byte, role, password string) []byte {
	if _, found := Password(passfile, role); !found {
		return AppendLine(passfile, PassfileLine(role, password))
	}
	all := lines(passfile)
	for i, line := range all {
		if strings.HasPrefix(line, "*:*:*:"+escapePass(role)+":") {
			all[i] = PassfileLine(role, password) + "\n"
			break
		}
	}
	return []byte(strings.Join(all, ""))
}
