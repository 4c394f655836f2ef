package integration_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walship/internal/testsshd"
)

// What is no WAL of this cluster is refused: one clear line and a hint, a code
// from 2 to 125, and nothing in the archive, not even a temporary file. (A NUL
// cannot be part of an argument: the kernel's exec ends it there.)
func TestRefused(t *testing.T) {
	t.Parallel()
	server := testsshd.Start(t, testsshd.Options{})
	for _, store := range []string{"sftp", "file"} {
		c, root := hostileData(t), t.TempDir()
		env := hostileFile(root)
		if store == "sftp" {
			env = hostileSFTP(server, root)
		}
		c.must(0, env, "init")
		path, name, _ := c.addSegment(4, 1)
		c.must(0, env, "push", path, name)
		before := hostileTree(t, root)
		for _, r := range c.refusals() {
			if r.content != nil {
				hostileOK(t, os.WriteFile(filepath.Join(c.Dir, "pg_wal", "pushed"), r.content, 0o600))
			} else {
				c.add("pushed", c.segment(5, 1))
			}
			p := c.run(env, "push", "pg_wal/pushed", r.name)
			t.Logf("%s, %s: %d\n%s", store, r.what, p.code, p.text())
			want := 4
			if strings.HasPrefix(r.name, "-") {
				want = 2 // a flag that does not exist
			}
			if p.code != want {
				t.Errorf("%s, %s: code %d instead of %d", store, r.what, p.code, want)
			}
			if err := hostileLines(p.text()); err != nil {
				t.Errorf("%s, %s: %v", store, r.what, err)
			}
			if want == 4 && !strings.Contains(p.text(), "walship: hint: ") {
				t.Errorf("%s, %s: no hint", store, r.what)
			}
			if len(p.text()) > 1000 {
				t.Errorf("%s, %s: %d bytes of message", store, r.what, len(p.text()))
			}
			if after := hostileTree(t, root); after != before {
				t.Fatalf("%s, %s: the archive has changed:\n%s\n%s", store, r.what, before, after)
			}
		}
	}
}

type hostileRefusal struct {
	what    string
	name    string
	content []byte // nil: the right content of segment 5
}

func (c *hostileCluster) refusals() []hostileRefusal {
	five := c.name(5)
	right := c.segment(5, 1)
	changed := func(at int, with ...byte) []byte {
		return append(append(bytes.Clone(right[:at]), with...), right[at+len(with):]...)
	}
	random := make([]byte, c.Size)
	rand.NewChaCha8([32]byte{9}).Read(random)
	address := uint64(5 * c.Size)
	return []hostileRefusal{
		{what: "an empty segment", name: five, content: []byte{}},
		{what: "a truncated segment", name: five, content: right[:len(right)/2]},
		{what: "a segment without its last byte", name: five, content: right[:len(right)-1]},
		{what: "a few bytes", name: five, content: right[:10]},
		{what: "an over-long segment", name: five, content: append(bytes.Clone(right), 0)},
		{what: "random bytes", name: five, content: random},
		{what: "zeros", name: five, content: make([]byte, c.Size)},
		{what: "a segment of a higher timeline", name: five, content: hostileSegment(c.magic, 2, address, c.ID, c.Size, 1)},
		{what: "a segment of timeline 0", name: five, content: hostileSegment(c.magic, 0, address, c.ID, c.Size, 1)},
		{what: "another segment", name: five, content: c.segment(6, 1)},
		{what: "another cluster's segment", name: five, content: hostileSegment(c.magic, 1, address, c.ID+1, c.Size, 1)},
		{what: "a segment size of 2 MB in the header", name: five, content: changed(32, 0, 0, 0x20, 0)},
		{what: "a segment of 16 MB", name: five, content: hostileSegment(c.magic, 1, address, c.ID, 16<<20, 1)},
		{what: "a short page header", name: five, content: changed(2, 0, 0)},
		{what: "WAL of a big-endian machine", name: five, content: changed(0, 0xD1, 0x16)},
		{what: "an unknown magic and another address", name: five, content: changed(0, 0x34, 0x12, 2, 0, 1, 0, 0, 0, 0, 0, 0x70)},
		{what: "a partial segment that is empty", name: five + ".partial", content: []byte{}},
		{what: "an empty history", name: "00000002.history", content: []byte{}},
		{what: "a garbled history", name: "00000002.history", content: []byte("\x1b[31mwhat\x00\xff is this\n")},
		{what: "a segment as a history", name: "00000002.history", content: right},
		{what: "a history of its own parents' future", name: "00000002.history", content: []byte("3\t0/3000000\tno recovery target specified\n")},
		{what: "an empty backup label", name: five + ".00000028.backup", content: []byte{}},
		{what: "a number that the segment size does not have", name: "000000010000000000001000"},

		{what: "a name with a slash", name: "../" + five},
		{what: "a name in a folder", name: "wal/" + five},
		{what: "an absolute name", name: "/etc/passwd"},
		{what: "dots", name: ".."},
		{what: "one dot", name: "."},
		{what: "an empty name", name: ""},
		{what: "lower case", name: strings.ToLower(c.name(10))},
		{what: "a space behind", name: five + " "},
		{what: "a space inside", name: five[:8] + " " + five[9:]},
		{what: "a newline", name: five + "\n"},
		{what: "two lines", name: five + "\nwalship: all is well"},
		{what: "1,000 characters", name: strings.Repeat("A", 1000)},
		{what: "1,000 control characters", name: strings.Repeat("\x1b", 1000)},
		{what: "a terminal's escape sequence", name: "\x1b]0;owned\x07\x1b[2J" + five},
		{what: "no UTF-8", name: "\xff\xfe" + five},
		{what: "text written from right to left", name: "\u202e" + five},
		{what: "a percent sign, as archive_command's own", name: "%f"},
		{what: "timeline 0", name: "000000000000000000000005"},
		{what: "history of timeline 0", name: "00000000.history"},
		{what: "a stored file's name", name: five + ".zst"},
		{what: "a flag", name: "--\x1b[2Jversion"},
	}
}

// A name that no WAL file has is doubt for fetch, in the mode's own way.
func TestFetchOfNoName(t *testing.T) {
	t.Parallel()
	c, root := hostileData(t), t.TempDir()
	env := hostileFile(root)
	c.must(0, env, "init")
	for mode, want := range map[string]int{"archive recovery": 126, "standby": 1, "ending": 1} {
		c.mode(mode)
		for _, r := range c.refusals() {
			if r.content != nil || r.name == c.name(5) {
				continue
			}
			p := c.must(want, env, "fetch", r.name, "pg_wal/RECOVERYXLOG")
			if err := hostileLines(strings.Replace(p.text(), "walship: warning: ", "walship: ", 1)); err != nil {
				t.Errorf("%s, %s: %v", mode, r.what, err)
			}
			if _, err := os.Stat(filepath.Join(c.Dir, "pg_wal", "RECOVERYXLOG")); err == nil {
				t.Errorf("%s, %s: something was delivered", mode, r.what)
			}
		}
	}
}
