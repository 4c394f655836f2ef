package integration_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"walship/internal/basebackup"
	"walship/internal/testsshd"
	"walship/walname"
)

// hostileNames are what a hostile archive host, or whoever may add files there,
// gives to be shown: they clear and retitle a terminal, type, turn the direction
// of writing round, hide, and are no UTF-8.
var hostileNames = []string{
	"\x1b[2J\x1b]0;owned\x07", "\x1b]52;c;aWQK\x07", "a\rwalship: all is well", "two\nlines", "\u202etxt.exe", "\u2066x\u2069",
	"\u009b31m", "\xff\xfe\x9b2J", "zero\u200bwidth", "\u2028", "\x7f", "\U000e0041tag", "..", "...", "-rf", "%s%n", strings.Repeat("n", 250),
}

// unshowable is nil if a terminal does nothing with text but show it.
func unshowable(text string) (runes []string) {
	for at, r := range text {
		bad := r != '\n' && !unicode.IsPrint(r)
		if r == utf8.RuneError {
			_, n := utf8.DecodeRuneInString(text[at:])
			bad = n == 1
		}
		if bad {
			runes = append(runes, strconv.QuoteRune(r)+" in "+strconv.Quote(text[max(0, at-30):min(len(text), at+30)]))
		}
	}
	return runes
}

// Whatever names, labels and reasons lie in an archive, no command sends to a
// terminal, a log or another program anything but characters that can be seen,
// and no file outside the archive is touched.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	c := hostileData(t)
	server := testsshd.Start(t, testsshd.Options{})
	root := filepath.Join(t.TempDir(), "archive")
	env := hostileSFTP(server, root)
	c.must(0, env, "init")
	for n := range 3 {
		path, name, _ := c.addSegment(n+1, 1)
		c.must(0, env, "push", path, name)
	}
	top := filepath.Join(root, strconv.FormatUint(c.ID, 10))
	log := filepath.Dir(c.stored(root, c.name(1)))
	plant := func(content string, names ...string) {
		file := filepath.Join(names...)
		hostileOK(t, os.MkdirAll(filepath.Dir(file), 0o755))
		hostileOK(t, os.WriteFile(file, []byte(content), 0o644))
	}
	for _, name := range hostileNames {
		if name == ".." {
			continue
		}
		for _, folder := range []string{root, top, filepath.Join(top, "wal"), log, filepath.Join(top, "history"), filepath.Join(top, "base"),
			filepath.Join(top, "refused"), filepath.Join(top, "drills"), filepath.Join(top, "tmp")} {
			plant("x", folder, name)
			if len(name) < 200 {
				plant("x", folder, "in-"+name, name)
				plant("x", folder, c.name(2)+name+".zst")
				plant("x", folder, name+".0123456789abcdef.tmp")
			}
		}
	}
	evil := strings.Join(hostileNames, " ")
	hostileBackup(t, top, c.ID, evil)
	plant("walship 1 00000000 {\"name\":\""+evil, log, c.name(9)+".zst") // a damaged record
	plant("1\t0/100000\t"+strings.ReplaceAll(evil, "\n", " ")+"\n", top, "history", "00000002.history")
	hostileOK(t, os.Truncate(c.stored(root, c.name(3))+".zst", 700))

	before := hostileTree(t, c.Dir)
	said := 0
	for _, args := range [][]string{
		{"list"}, {"list", "--long"}, {"list", "--json"}, {"list", "--json", "--long"}, {"list", "--wal-per", "day"},
		{"verify", "-q"}, {"verify", "-q", "--json"}, {"check", "--archive-only"}, {"check", "--archive-only", "--json"},
		{"prune", "--dry-run", "--keep-from", c.name(2)}, {"prune", "--dry-run", "--json", "--keep-from", c.name(2)}, {"prune", "--dry-run", "--keep-backups", "1"},
		{"restore", "-D", filepath.Join(t.TempDir(), "new"), "--dry-run"}, {"restore", "-D", filepath.Join(t.TempDir(), "new"), "--dry-run", "--json"},
		{"fetch", c.name(3), "pg_wal/x"}, {"fetch", c.name(9), "pg_wal/x"}, {"fetch", "00000002.history", "pg_wal/x"},
		{"fetch", evil[:strings.IndexByte(evil, 0x7f)], "pg_wal/x"}, {"push", "pg_wal/" + c.name(1), evil}, {"push", evil, c.name(1)}, {evil},
		{"list", "--cluster", evil}, {"--archive", "sftp://x/" + evil, "list"}, {"--config", evil, "list"},
	} {
		p := c.run(env, args...)
		if bad := unshowable(p.text()); len(bad) > 0 {
			t.Errorf("walship %q: %d that cannot be shown, such as %s", args, len(bad), bad[0])
		}
		if p.code < 0 || p.code == 0 && args[0] == "verify" {
			t.Errorf("walship %q: code %d\n%s", args, p.code, p.text())
		}
		said += len(p.text())
		if strings.Contains(p.text(), "goroutine ") {
			t.Errorf("walship %q: %s", args, p.text())
		}
	}
	if said < 10_000 {
		t.Errorf("they said no more than %d bytes", said)
	}
	if after := hostileTree(t, c.Dir); after != before {
		t.Errorf("the data directory was\n%s\nis\n%s", before, after)
	}
}

// hostileBackup stores a backup without files, whose manifest vouches for itself
// and holds text wherever it holds text.
func hostileBackup(t *testing.T, top string, system uint64, text string) {
	t.Helper()
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	segment, err := walname.Parse("000000010000000000000001")
	hostileOK(t, err)
	id := basebackup.ID{Start: segment.Segment, Time: at}
	m := basebackup.Manifest{Backup: id.String(), SystemID: system, PostgreSQL: text, Server: text, SegmentSize: 1 << 20, Method: text, Label: text,
		Begin: at, End: at.Add(time.Minute), Timeline: 1, StartLSN: 0x100028, EndLSN: 0x180000, Tablespaces: []basebackup.Tablespace{{OID: 16384, Location: text}},
		Lists: []basebackup.Ref{{Name: text}, {Name: "../../../../victim"}}, Walship: text}
	content, err := m.Marshal()
	hostileOK(t, err)
	folder := filepath.Join(top, "base", id.String())
	hostileOK(t, os.MkdirAll(folder, 0o755))
	hostileOK(t, os.WriteFile(filepath.Join(folder, basebackup.ManifestFile), content, 0o644))
	for _, name := range hostileNames {
		if name != ".." {
			hostileOK(t, os.WriteFile(filepath.Join(folder, name), []byte("x"), 0o644))
		}
	}
}
