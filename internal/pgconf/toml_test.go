package pgconf

import (
	"testing"

	"github.com/BurntSushi/toml"
)

func TestSetTOML(t *testing.T) {
	for _, c := range []struct{ text, key, value, want string }{
		{"", "archive", "file:///a", "archive = \"file:///a\"\n"},
		{"# mine\ncodec = \"gzip\"", "archive", "b", "# mine\ncodec = \"gzip\"\narchive = \"b\"\n"},
		{"archive = 'a' # old\nssh_key = \"k\"\n", "archive", "b", "archive = \"b\"\nssh_key = \"k\"\n"},
		{"  archive=\"a\"\r\n", "archive", "b", "archive = \"b\"\r\n"},
		{"#archive = \"a\"\n", "archive", "b", "#archive = \"a\"\narchive = \"b\"\n"},
	} {
		if got := string(SetTOML([]byte(c.text), c.key, c.value)); got != c.want {
			t.Errorf("%q: %q, want %q", c.text, got, c.want)
		}
	}
}

// Whatever the value, a reader of TOML gets it back.
func FuzzSetTOML(f *testing.F) {
	for _, seed := range []string{"", "a", `"`, `\`, "\n", "\x7f", "ü"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		var got struct{ Archive string }
		text := SetTOML([]byte("codec = \"gzip\"\n"), "archive", value)
		if _, err := toml.Decode(string(text), &got); err != nil || got.Archive != value {
			if string([]rune(value)) == value { // valid UTF-8
				t.Fatalf("%q: %q %v", text, got.Archive, err)
			}
		}
	})
}
