package config

import (
	"strings"
	"testing"
)

// Whatever stands in a URL, a password in it is never shown.
func FuzzMaskURL(f *testing.F) {
	for _, s := range [][3]string{
		{"wal", "secret", "backup/srv"}, {"wal", "s3cr@t:/?#", "h:22/p"}, {"", "p%40ss", "[::1]:22/~/x"}, {"a:b", "22222", "h"}, {"u", "://@", "h/@"}, {"%3a", "%3A", "h"},
	} {
		f.Add(s[0], s[1], s[2])
	}
	f.Fuzz(func(t *testing.T, user, password, rest string) {
		if strings.ContainsAny(user, ":/@?#%") || strings.ContainsAny(rest, "?#") {
			return // not the form USER:PASSWORD@HOST
		}
		if at := strings.IndexAny(password, "/?#"); at >= 0 && isPort(password[:at]) {
			return // USER:22/… is a host and its port
		}
		// A mark that nothing else can hold.
		const mark = "\x01secret\x02"
		url := "sftp://" + user + ":" + password + mark + "@" + rest
		if got := MaskURL(url); strings.Contains(got, mark) || strings.Contains(got, "secret") && !strings.Contains(user+rest, "secret") {
			t.Errorf("%q is shown as %q", url, got)
		}
		if once := MaskURL(url); MaskURL(once) != once {
			t.Errorf("%q, masked again, is %q", once, MaskURL(once))
		}
	})
}
