package transport

import (
	"errors"
	"strings"
	"testing"
)

func TestParseURL(t *testing.T) {
	for in, want := range map[string]URL{
		"sftp://wal@backup.example.com:2222/srv/wal": {"sftp", "wal", "backup.example.com", "2222", "/srv/wal"},
		"sftp://backup/srv/wal/":                     {"sftp", "", "backup", "", "/srv/wal"},
		"SFTP://backup/~/wal":                        {"sftp", "", "backup", "", "wal"},
		"sftp://backup/~":                            {"sftp", "", "backup", "", "."},
		"sftp://backup/":                             {"sftp", "", "backup", "", "/"},
		"sftp://wal@[2001:db8::1]:22/a":              {"sftp", "wal", "2001:db8::1", "22", "/a"},
		"sftp://[fe80::1%25eth0]/a":                  {"sftp", "", "fe80::1%eth0", "", "/a"},
		"sftp://a@b@h/x":                             {"sftp", "a@b", "h", "", "/x"},
		"sftp://h:022/a%20b/c@d:e":                   {"sftp", "", "h", "22", "/a b/c@d:e"},
		"sftp://h/./~x":                              {"sftp", "", "h", "", "/~x"},
		"file:///var/lib/pgsql/archive":              {"file", "", "", "", "/var/lib/pgsql/archive"},
		"file://localhost/a%25b":                     {"file", "", "", "", "/a%b"},
	} {
		got, err := ParseURL(in)
		if err != nil || got != want {
			t.Errorf("ParseURL(%q) = %+v, %v, want %+v", in, got, err, want)
			continue
		}
		if again, err := ParseURL(got.String()); again != got || err != nil {
			t.Errorf("%q: String() = %q is read as %+v, %v", in, got, again, err)
		}
	}
}

func TestParseURLRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"":                        "is empty",
		"/srv/wal":                `did you mean "file:///srv/wal"?`,
		"file:/srv/wal":           `did you mean "file:///srv/wal"?`,
		"wal@host:/srv/wal":       `did you mean "sftp://wal@host/srv/wal"?`,
		"wal@host:wal":            `did you mean "sftp://wal@host/~/wal"?`,
		"s3://bucket/x":           `the unknown scheme "s3"`,
		"sftp:///srv/wal":         "names no host",
		"sftp://wal@/srv":         "names no host",
		"sftp://@h/srv":           "empty or badly encoded user",
		"sftp://host":             "has no path",
		"sftp://host:0/a":         `port "0", which is not`,
		"sftp://host:65536/a":     `port "65536", which is not`,
		"sftp://host:/a":          `port "", which is not`,
		"sftp://host:ssh/a":       `port "ssh", which is not`,
		"sftp://2001:db8::1/a":    "stands in brackets",
		"sftp://[host]/a":         `host "host", which is not an IPv6 address`,
		"sftp://[::1/a":           "stands in brackets",
		"sftp://host/a?b=c":       "query or fragment",
		"sftp://host/a#b":         "query or fragment",
		"sftp://host/%zz":         "two hex digits",
		"sftp://host/a%00b":       "control character",
		"sftp://host/a\nb":        "control character",
		"sftp://-oProxy=x/a":      `host "-oProxy=x"`,
		"sftp://-l@host/a":        `user "-l"`,
		"sftp://a b@host/a":       `user "a b"`,
		"sftp://%2Dl@host/a":      `user "-l"`,
		"sftp://u@ho$(id)st/a":    "special characters",
		"sftp://host/~other/wal":  "another user's home",
		"file://srv/wal":          "has a relative path",
		"file:///":                "names no folder",
		"file://":                 "names no folder",
		"sftp://host/a\x80":       "not UTF-8",
		"sftp://host%20name/path": "special characters",
	} {
		_, err := ParseURL(in)
		if err == nil || !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseURL(%q): %v, want ErrConfig with %q", in, err, want)
		}
	}
}

func TestParseURLKeepsPasswordsToItself(t *testing.T) {
	for _, in := range []string{
		"sftp://u:s3cret@host/a", "sftp://u:s3/cret@host/a", "sftp://u:s3cret?@host/a", "sftp://u:#s3cret@host/a",
		"sftp://u:s3cret@host:bad/a", "u:s3cret@host:/a", "ftp://u:s3cret@host/a", "sftp://u%3As3cret@host/a",
		"sftp://u:s3@cret@host/a", "sftp://u:s3cret@host/a\n", "sftp://u:s3cret@[::1]:22/a", "sftp:/u:s3cret@host/a",
		"file://u:s3cret@host/a", "/u:s3cret@host", "file:u:s3cret@host", "sftp://u:s3cret@host", "sftp://u:s3cret@ho st/a@b", "sftp://u:s3cret@host/~x",
	} {
		_, err := ParseURL(in)
		if err == nil {
			t.Errorf("ParseURL(%q) accepts a password", in)
		} else if msg := err.Error(); strings.Contains(msg, "cret") || strings.Contains(msg, "s3") {
			t.Errorf("ParseURL(%q) repeats the password: %v", in, err)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	for _, s := range []string{"sftp://wal@h:22/~/a", "file:///a%20b", "sftp://[::1%25x]/~", "sftp://a:b@c/d", "x://", "sftp://h//~a/../~"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseURL(s)
		if err != nil {
			if !errors.Is(err, ErrConfig) || !printable(err.Error()) {
				t.Errorf("%q: error %q", s, err)
			}
			return
		}
		if again, err := ParseURL(u.String()); err != nil || again != u {
			t.Errorf("%q: %+v prints as %q, which reads as %+v, %v", s, u, u, again, err)
		}
	})
}
