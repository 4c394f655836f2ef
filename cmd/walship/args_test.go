package main

import (
	"slices"
	"strings"
	"testing"
)

// Flags are accepted before the command, after it and behind the arguments; what
// the parser gets is command, flags, arguments.
func TestArrange(t *testing.T) {
	for _, c := range []struct {
		line, want    string
		command, mode string
		help          bool
	}{
		{"", "", "", "", false},
		{"push P N", "push -- P N", "push", "", false},
		{"fetch N P", "fetch -- N P", "fetch", "", false},
		{"--archive URL push P N", "push --archive URL -- P N", "push", "", false},
		{"-archive URL push P N", "push -archive URL -- P N", "push", "", false},
		{"push --archive URL P N", "push --archive URL -- P N", "push", "", false},
		{"push P --archive URL N", "push --archive URL -- P N", "push", "", false},
		{"push P N --archive URL", "push --archive URL -- P N", "push", "", false},
		{"push P N --archive=URL", "push --archive=URL -- P N", "push", "", false},
		{"--no-clone-guard push P N", "push --no-clone-guard -- P N", "push", "", false},
		{"push P N --no-clone-guard", "push --no-clone-guard -- P N", "push", "", false},
		{"-D DIR push P N", "push -D DIR -- P N", "push", "", false},
		{"push --pgdata DIR P N", "push --pgdata DIR -- P N", "push", "", false},
		{"push -- P N", "push -- P N", "push", "", false},
		{"push -- --archive N", "push -- --archive N", "push", "", false},
		{"-- push P N", "push -- P N", "push", "", false},
		{"push - N", "push -- - N", "push", "", false},
		{"push P N --bogus", "push --bogus -- P N", "push", "", false},
		{"--bogus push P N", "push --bogus -- P N", "push", "", false},
		{"fetch N P --mode standby", "fetch --mode standby -- N P", "fetch", "standby", false},
		{"--mode=standby fetch N P", "fetch --mode=standby -- N P", "fetch", "standby", false},
		{"fetch --mode --no-gap-guard N P", "fetch --mode --no-gap-guard -- N P", "fetch", "--no-gap-guard", false},
		{"fetch N P --mode", "fetch --mode -- N P", "fetch", "", false},
		{"fetch -- --mode standby", "fetch -- --mode standby", "fetch", "", false},
		{"--help", "--help", "", "", true},
		{"push -h", "push -h", "push", "", true},
		{"push P N --help", "push --help", "push", "", true},
		{"help push", "help -- push", "help", "", true},
		{"push -- --help", "push -- --help", "push", "", false},
		{"nonsense N P", "nonsense -- N P", "nonsense", "", false},
		{"setup", "setup", "setup", "", false},
		{"setup --help", "setup --help", "setup", "", true},
		{"setup ssh", "setup ssh", "setup ssh", "", false},
		{"setup ssh --help", "setup ssh --help", "setup ssh", "", true},
		{"help setup ssh", "help -- setup ssh", "help", "", true},
		{"setup ssh --archive URL", "setup ssh --archive URL", "setup ssh", "", false},
		{"--archive URL setup --dry-run ssh", "setup ssh --archive URL --dry-run", "setup ssh", "", false},
		{"--dry-run setup ssh", "setup ssh --dry-run", "setup ssh", "", false},
		{"setup nonsense ssh", "setup -- nonsense ssh", "setup", "", false},
		{"push setup ssh", "push -- setup ssh", "push", "", false},
		{"fetch setup ssh", "fetch -- setup ssh", "fetch", "", false},
	} {
		line := arrange(append([]string{"walship"}, strings.Fields(c.line)...))
		want := append([]string{"walship"}, strings.Fields(c.want)...)
		if i := slices.Index(want, "setup"); i >= 0 && i+1 < len(want) && want[i+1] == "ssh" && c.command != "push" && c.command != "fetch" {
			want = slices.Replace(want, i, i+2, "setup ssh") // one word
		}
		if !slices.Equal(line.args, want) || line.command != c.command || line.mode != c.mode || line.help != c.help {
			t.Errorf("%q: %q, command %q, mode %q, help %v, want %+v", c.line, line.args, line.command, line.mode, line.help, c)
		}
	}
}

// What the arranged line keeps of the given one is every word, however odd.
func TestArrangeKeepsWords(t *testing.T) {
	args := []string{"walship", "push", "", "a b", "\x00", "-", strings.Repeat("x", 1000)}
	if got := arrange(args).args; !slices.Equal(got, append([]string{"walship", "push", "--"}, args[2:]...)) {
		t.Errorf("%q", got)
	}
}
