package pgconf

import (
	"encoding/base64"
	"strings"
	"testing"
)

// The secrets are PostgreSQL's own forms: the MD5 one as md5sum has it, the
// SCRAM one by the numbers of RFC 7677's example.
func TestVerifiers(t *testing.T) {
	if got := md5Secret("postgres", "secret"); got != "md553f48b7c4b76a86ce72276c5755f217d" {
		t.Errorf("%s", got)
	}
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	if err != nil {
		t.Fatal(err)
	}
	got, err := scramSecret("pencil", salt, 4096)
	if err != nil || got != "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=" {
		t.Errorf("%s %v", got, err)
	}
	for _, v := range versions(t) {
		password := NewPassword()
		secret, err := Verifier(v, "walship", password)
		if err != nil || strings.Contains(secret, password) || strings.HasPrefix(secret, "md5") != (v < v10) {
			t.Errorf("%s: %s %v", v, secret, err)
		}
		if !Verifies(secret, "walship", password) || Verifies(secret, "walship", password+"x") || Verifies(secret, "other", password) && v < v10 {
			t.Errorf("%s: %s does not tell right from wrong", v, secret)
		}
	}
	for _, bad := range []string{"", "SCRAM-SHA-256$", "SCRAM-SHA-256$0:AA==$a:b", "SCRAM-SHA-256$99999999999:AA==$a:b", "plain"} {
		if Verifies(bad, "walship", "plain") {
			t.Errorf("%q verifies", bad)
		}
	}
}

func TestPassfile(t *testing.T) {
	old := []byte("db1:5432:*:bob:x\n")
	one := SetPassword(old, "wal:ship", `a:b\c`)
	if got, found := Password(one, "wal:ship"); !found || got != `a:b\c` {
		t.Errorf("%q %v in %s", got, found, one)
	}
	two := SetPassword(one, "wal:ship", "new")
	if got, _ := Password(two, "wal:ship"); got != "new" || !strings.HasPrefix(string(two), string(old)) || strings.Count(string(two), "\n") != 2 {
		t.Errorf("%s", two)
	}
	if _, found := Password(two, "bob"); found {
		t.Error("another host's password is taken for everybody's")
	}
	seen := map[string]bool{}
	for range 100 {
		p := NewPassword()
		if len(p) != 32 || seen[p] || strings.Trim(p, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789") != "" {
			t.Fatalf("%q", p)
		}
		seen[p] = true
	}
}
