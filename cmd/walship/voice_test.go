package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walship/internal/pgdata"
	"walship/restore"
	"walship/transport"
)

// A message is one line without anything that a terminal or a log would obey.
func TestOneLine(t *testing.T) {
	for text, want := range map[string]string{
		"":                      "",
		"plain é 漢":             "plain é 漢",
		"a\nb\tc":               "a b c",
		"a\r\nb":                "a? b",
		"\x1b[31mred\x1b[0m":    "?[31mred?[0m",
		"nul\x00bel\x07del\x7f": "nul?bel?del?",
		"c1\u0085\u009b":        "c1??",
		"\u2028\u2029":          "??",
		"\u202egnp.exe\u2066":   "?gnp.exe?",
		"bad \xff utf-8":        "bad \uFFFD utf-8",
	} {
		if got := oneLine(text); got != want {
			t.Errorf("oneLine(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestFail(t *testing.T) {
	absent, lost := fmt.Errorf("%w: N", restore.ErrNotThere), transport.WithHint(errors.New("line\ndead"), "look\nthere")
	for _, c := range []struct {
		what   string
		caller caller
		err    error
		want   []string // how the lines begin
	}{
		{"nothing", caller{command: "push"}, nil, nil},
		{"a miss of a standby", caller{command: "fetch", mode: pgdata.Standby}, absent, nil},
		{"a miss of a recovery", caller{command: "fetch", mode: pgdata.ArchiveRecovery}, absent, nil},
		{"a miss by hand", caller{command: "fetch", mode: pgdata.ByHand}, absent, []string{"walship: fetch: not in the archive: N"}},
		{"doubt of a standby", caller{command: "fetch", mode: pgdata.Standby}, lost,
			[]string{"walship: warning: fetch: line dead", "walship: hint: look there", "walship: hint: this is doubt"}},
		{"doubt of a recovery", caller{command: "fetch", mode: pgdata.ArchiveRecovery}, lost,
			[]string{"walship: fetch: line dead", "walship: hint: look there", "walship: hint: recovery stops here"}},
		{"push", caller{command: "push", mode: pgdata.Ending}, lost, []string{"walship: push: line dead", "walship: hint: look there"}},
		{"no command", caller{}, usage("a command is missing"), []string{"walship: usage: a command is missing"}},
	} {
		path := filepath.Join(t.TempDir(), "stderr")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		(&voice{out: f, err: f}).fail(c.caller, c.caller.code(c.err), c.err)
		f.Close()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.SplitAfter(string(b), "\n")
		lines = lines[:len(lines)-1]
		ok := len(lines) == len(c.want)
		for i := range min(len(lines), len(c.want)) {
			ok = ok && strings.HasPrefix(lines[i], c.want[i]) && !strings.HasSuffix(lines[i], ".\n")
		}
		if !ok {
			t.Errorf("%s: %q, want %q", c.what, lines, c.want)
		}
	}
}
