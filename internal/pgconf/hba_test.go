package pgconf

import (
	"slices"
	"strings"
	"testing"
)

const standby7 = "# walship setup: replication of the standby 10.0.0.7\nhost\treplication\twalship\t10.0.0.7/32\tscram-sha-256\n"

// The new line stands before the first that may decide otherwise, and nothing is
// changed where one lets the standby in already. | stands for the new lines.
func TestAddAccess(t *testing.T) {
	access := Access{Role: "walship", Address: "10.0.0.7"}
	for _, c := range []struct{ what, text string }{
		{"empty", "|"},
		{"no match", "local all all trust\nhost all all 0.0.0.0/0 md5\n|"},
		{"no newline at the end", "host all all 0.0.0.0/0 md5"},
		{"reject before", "local replication all peer\n|host replication all 0.0.0.0/0 reject\n"},
		{"trust is no password", "|host replication all 10.0.0.0/8 trust\n"},
		{"has a password", "host replication all 10.0.0.0/8 md5\n"},
		{"has a password, scram", "host replication walship 10.0.0.7/32 scram-sha-256\n"},
		{"with a mask", "host replication all 10.0.0.0 255.0.0.0 md5\n"},
		{"a mask that does not hold it", "host replication all 10.1.0.0 255.255.0.0 md5\n|"},
		{"all addresses", "host replication all all md5\n"},
		{"quoted replication is a database", "host \"replication\" all all md5\n|"},
		{"quoted all is a role", "host replication \"all\" all md5\n|"},
		{"another role", "host replication bob all reject\n|"},
		{"in a list", "host a,replication,b bob,walship 10.0.0.0/8 md5\n"},
		{"in a list with blanks", "host a, replication bob, walship 10.0.0.0/8 md5\n"},
		{"a group may hold it", "|host replication +admins all reject\n"},
		{"a file may name it", "|host @names walship all reject\n"},
		{"ssl only may match", "|hostssl replication all all md5\n"},
		{"samenet may hold it", "|host replication all samenet md5\n"},
		{"a host name may be it", "|host replication all db2.example.com md5\n"},
		{"another network", "host replication all 192.168.0.0/16 reject\n|"},
		{"IPv6", "host replication all ::/0 reject\n|"},
		{"comments", "# host replication all all reject\n  # x\n\n|"},
		{"a comment behind", "host replication all all md5 # fine\n"},
		{"an include may match", "|include more.conf\nhost replication all all reject\n"},
		{"a quote without end", "|host replication \"all all reject\n"},
		{"too short", "|host replication\n"},
		{"continued", "|host replication all \\\n  all reject\n"},
		{"continued, fine", "host replication all \\\n  all md5\n"},
	} {
		text := strings.Replace(c.text, "|", "", 1)
		want := strings.Replace(c.text, "|", standby7, 1)
		if c.what == "no newline at the end" {
			want = text + "\n" + standby7
		}
		got := AddAccess([]byte(text), access, v18)
		if string(got) != want {
			t.Errorf("%s:\n%swant\n%s", c.what, got, want)
		}
		if again := AddAccess(got, access, v18); string(again) != string(got) {
			t.Errorf("%s: a second time it is\n%s", c.what, again)
		}
	}
}

// Lines end as the others do, and a continued line means nothing before 14.
func TestAddAccessForms(t *testing.T) {
	access := Access{Role: "walship", Address: "::1"}
	got := string(AddAccess([]byte("local all all trust\r\n"), access, v10))
	if want := "local all all trust\r\n# walship setup: replication of the standby ::1\r\nhost\treplication\twalship\t::1/128\tscram-sha-256\r\n"; got != want {
		t.Errorf("%q", got)
	}
	text := []byte("host all all all md5 \\\nhost replication all all md5\n")
	if got := AddAccess(text, access, v10); string(got) != string(text) {
		t.Errorf("before 14: %s", got)
	}
	for address, want := range map[string]string{"10.0.0.0/8": "10.0.0.0/8", "db2.example.com": "db2.example.com", "fe80::1": "fe80::1/128"} {
		if line := (Access{Role: "r", Address: address}).Line(v90); line != "host\treplication\tr\t"+want+"\tmd5" {
			t.Errorf("%s: %q", address, line)
		}
	}
}

// Whatever the file holds, what was in it stays, in its order, and a second run
// changes nothing.
func FuzzAddAccess(f *testing.F) {
	for _, seed := range []string{"", "host replication all all md5", "a\\\nb\\", "\"", "host,\nreplication,,, x\r\n", "\xe9\n", "include x\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		access := Access{Role: "walship", Address: "10.0.0.7"}
		once := AddAccess([]byte(text), access, v18)
		if twice := AddAccess(once, access, v18); string(twice) != string(once) {
			t.Fatalf("a second time %q becomes %q", once, twice)
		}
		left := lines(once)
		for _, line := range lines([]byte(text)) {
			i := slices.IndexFunc(left, func(l string) bool { return strings.TrimRight(l, "\r\n") == strings.TrimRight(line, "\r\n") })
			if i < 0 {
				t.Fatalf("%q is gone from %q", line, once)
			}
			left = left[i+1:]
		}
	})
}
