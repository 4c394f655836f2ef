package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// env is an environment that holds nothing else.
type env map[string]string

func (e env) lookup(name string) (string, bool) {
	text, ok := e[name]
	return text, ok
}

// world is a home and a system folder of one test, without HOME in the
// environment, as PostgreSQL starts us.
type world struct{ home, system string }

func newWorld(t *testing.T) world {
	dir := t.TempDir()
	return world{home: filepath.Join(dir, "home"), system: filepath.Join(dir, "etc")}
}

func (w world) sources(e env, flags map[string]string) Sources {
	return Sources{
		Flags:     flags,
		LookupEnv: e.lookup,
		UserHome:  func() (string, error) { return w.home, nil },
		SystemDir: w.system,
	}
}

func (w world) user() string   { return filepath.Join(w.home, ".config", "walship", "walship.toml") }
func (w world) global() string { return filepath.Join(w.system, "walship.toml") }

func write(t *testing.T, name, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func load(t *testing.T, src Sources) *Config {
	t.Helper()
	c, err := Load(src)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func value(t *testing.T, c *Config, name string) Value {
	t.Helper()
	for _, v := range c.Values() {
		if v.Name == name {
			return v
		}
	}
	t.Fatalf("no value %q", name)
	return Value{}
}

func TestDefaults(t *testing.T) {
	w := newWorld(t)
	c := load(t, w.sources(nil, nil))
	if c.Archive != "" || c.SSHKey != "" || c.KnownHosts != "" || c.File != "" || c.Agent != "off" || c.Timeout != 2*time.Minute ||
		c.Silence != 0 || c.Durability != "full" || c.AppendOnly || c.Codec != "zstd" || !c.HeaderCheck || c.AgentDir != "" || c.Prefetch != 128<<20 {
		t.Errorf("defaults: %+v", c)
	}
	for i, s := range Settings() {
		if got, want := c.Values()[i], (Value{Name: s.Name, Text: s.Default, Origin: "default", Secret: s.Secret}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func TestEverySettingFromEverySource(t *testing.T) {
	const toml = `
archive = "file:///from/file"
ssh_key = "/file/key"
known_hosts = "/file/hosts"
agent = "auto"
agent_dir = "/file/agent"
prefetch_memory = "64MB"
connections = 2
timeout = "3m"
silence = "1m"
durability = "file"
append_only = "on"
codec = "gzip"
recipients = ["age10rjnuy64uh63alfhmtgx47vnjqrawvksfplxfg3syen8g0sm297smg3qvs"]
recipients_file = "/file/recipients"
identity_file = "/file/identity"
header_check = "off"
`
	given := map[string]string{
		"archive": "sftp://wal@backup/srv", "ssh_key": "/other/key", "known_hosts": "/other/hosts", "agent": "off", "agent_dir": "/other/agent", "prefetch_memory": "1GB", "connections": "3", "timeout": "1d",
		"silence": "90s", "durability": "none", "append_only": "off", "codec": "none", "header_check": "on",
		"recipients": "age1tmm4enr0gcgn3v9qxkfftpqnuf90h3ma23tnrzr70ljexnesuu9qevtxmd, age10rjnuy64uh63alfhmtgx47vnjqrawvksfplxfg3syen8g0sm297smg3qvs", "recipients_file": "/other/recipients", "identity_file": "/other/identity",
	}
	w := newWorld(t)
	file := write(t, w.global(), toml)
	e, flags := env{}, map[string]string{}
	c := load(t, w.sources(e, flags))
	if c.Archive != "file:///from/file" || c.SSHKey != "/file/key" || c.KnownHosts != "/file/hosts" || c.Agent != "auto" || c.Connections != 2 || c.Timeout != 3*time.Minute ||
		c.Silence != time.Minute || c.Durability != "file" || !c.AppendOnly || c.Codec != "gzip" || !slices.Equal(c.Recipients, []string{"age10rjnuy64uh63alfhmtgx47vnjqrawvksfplxfg3syen8g0sm297smg3qvs"}) || c.RecipientsFile != "/file/recipients" ||
		c.IdentityFile != "/file/identity" || c.HeaderCheck || c.File != file {
		t.Errorf("from the file: %+v", c)
	}
	for i, s := range Settings()[1:] {
		text, ok := given[s.Name]
		if !ok {
			t.Fatalf("no example of %s: add it here", s.Name)
		}
		if got, want := value(t, c, s.Name).Origin, fmt.Sprintf("%s:%d", file, i+2); got != want {
			t.Errorf("%s: origin %q, want %q", s.Name, got, want)
		}
		e[s.Env()] = text
		if got, want := value(t, load(t, w.sources(e, nil)), s.Name), (Value{Name: s.Name, Text: text, Origin: "environment " + s.Env(), Secret: s.Secret}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		// The flag wins over an environment that says what the file says.
		e[s.Env()], flags[s.Flag()] = value(t, c, s.Name).Text, text
		if got, want := value(t, load(t, w.sources(e, flags)), s.Name), (Value{Name: s.Name, Text: text, Origin: "flag --" + s.Flag(), Secret: s.Secret}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	c = load(t, w.sources(nil, flags))
	if c.Archive != "sftp://wal@backup/srv" || c.SSHKey != "/other/key" || c.KnownHosts != "/other/hosts" || c.Agent != "off" || c.Timeout != 24*time.Hour ||
		c.Silence != 90*time.Second || c.Durability != "none" || c.AppendOnly || c.Codec != "none" || len(c.Recipients) != 2 || c.RecipientsFile != "/other/recipients" || c.IdentityFile != "/other/identity" || !c.HeaderCheck {
		t.Errorf("from flags: %+v", c)
	}
}

// The names that scripts rely on.
func TestNames(t *testing.T) {
	want := []string{
		"config --config WALSHIP_CONFIG", "archive --archive WALSHIP_ARCHIVE", "ssh_key --ssh-key WALSHIP_SSH_KEY",
		"known_hosts --known-hosts WALSHIP_KNOWN_HOSTS", "agent --agent WALSHIP_AGENT",
		"agent_dir --agent-dir WALSHIP_AGENT_DIR", "prefetch_memory --prefetch-memory WALSHIP_PREFETCH_MEMORY", "connections --connections WALSHIP_CONNECTIONS", "timeout --timeout WALSHIP_TIMEOUT",
		"silence --silence WALSHIP_SILENCE", "durability --durability WALSHIP_DURABILITY", "append_only --append-only WALSHIP_APPEND_ONLY", "codec --codec WALSHIP_CODEC",
		"recipients --recipients WALSHIP_RECIPIENTS",
		"recipients_file --recipients-file WALSHIP_RECIPIENTS_FILE",
		"identity_file --identity-file WALSHIP_IDENTITY_FILE",
		"header_check --header-check WALSHIP_HEADER_CHECK",
	}
	var got []string
	for _, s := range Settings() {
		got = append(got, fmt.Sprintf("%s --%s %s", s.Name, s.Flag(), s.Env()))
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

func TestEmptyEnvironmentIsNotSet(t *testing.T) {
	w := newWorld(t)
	file := write(t, w.global(), `archive = "file:///a"`)
	e := env{"HOME": "", "XDG_CONFIG_HOME": ""}
	for _, s := range Settings() {
		e[s.Env()] = ""
	}
	if c := load(t, w.sources(e, nil)); c.Archive != "file:///a" || c.File != file {
		t.Errorf("archive %q of %q", c.Archive, c.File)
	}
}

func TestUnknownEnvironmentIsIgnored(t *testing.T) {
	w := newWorld(t)
	load(t, w.sources(env{"WALSHIP_FAULT": "x=kill", "WALSHIP_ARCHVE": "x"}, nil))
}

func TestFileSearch(t *testing.T) {
	w := newWorld(t)
	xdg, other := filepath.Join(t.TempDir(), "xdg"), filepath.Join(t.TempDir(), "other")
	steps := []struct {
		name  string // added to what is there already
		env   env
		flags map[string]string
	}{
		{w.global(), nil, nil},
		{w.user(), nil, nil},
		{filepath.Join(other, ".config/walship/walship.toml"), env{"HOME": other}, nil},
		{filepath.Join(xdg, "walship/walship.toml"), env{"HOME": other, "XDG_CONFIG_HOME": xdg}, nil},
		{filepath.Join(other, "env.toml"), env{"HOME": other, "XDG_CONFIG_HOME": xdg, "WALSHIP_CONFIG": filepath.Join(other, "env.toml")}, nil},
		{filepath.Join(other, "flag.toml"), env{"WALSHIP_CONFIG": filepath.Join(other, "env.toml")}, map[string]string{"config": filepath.Join(other, "flag.toml")}},
		{filepath.Join(other, "home.toml"), env{"HOME": other}, map[string]string{"config": "~/home.toml"}},
	}
	for _, step := range steps {
		write(t, step.name, fmt.Sprintf("archive = 'file://%s'", step.name))
		c := load(t, w.sources(step.env, step.flags))
		if c.File != step.name || c.Archive != "file://"+step.name || value(t, c, "archive").Origin != step.name+":1" || value(t, c, "config").Text != step.name {
			t.Errorf("want %s, got %s with archive %s", step.name, c.File, c.Archive)
		}
	}
	// Relative to nothing known, and so ignored.
	if c := load(t, w.sources(env{"XDG_CONFIG_HOME": "xdg"}, nil)); c.File != w.user() {
		t.Errorf("relative XDG_CONFIG_HOME: took %q", c.File)
	}
}

func TestNoHome(t *testing.T) {
	w := newWorld(t)
	write(t, w.user(), `agent = "auto"`)
	global := write(t, w.global(), `archive = "file:///a"`)
	src := w.sources(nil, nil)
	src.UserHome = func() (string, error) { return "", errors.New("no such user") }
	if c := load(t, src); c.File != global {
		t.Errorf("took %q", c.File)
	}
	// A home that is no folder, as system users have.
	src.UserHome = func() (string, error) { return os.DevNull, nil }
	if c := load(t, src); c.File != global {
		t.Errorf("took %q", c.File)
	}
}

func TestPasswdHome(t *testing.T) {
	t.Setenv("HOME", "")
	if home, err := passwdHome(); err != nil || !filepath.IsAbs(home) {
		t.Errorf("passwdHome() = %q, %v", home, err)
	}
}

func TestPaths(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Dir(write(t, w.global(), "ssh_key = 'keys/wal'\nknown_hosts = '~/hosts'"))
	if c := load(t, w.sources(nil, nil)); c.SSHKey != filepath.Join(dir, "keys/wal") || c.KnownHosts != filepath.Join(w.home, "hosts") {
		t.Errorf("from the file: %q, %q", c.SSHKey, c.KnownHosts)
	}
	e := env{"HOME": "/h", "WALSHIP_SSH_KEY": "keys/../wal", "WALSHIP_KNOWN_HOSTS": "~/hosts"}
	if c := load(t, w.sources(e, map[string]string{"config": os.DevNull})); c.SSHKey != "wal" || c.KnownHosts != "/h/hosts" || c.File != os.DevNull {
		t.Errorf("from the environment: %q, %q", c.SSHKey, c.KnownHosts)
	}
}

func TestHeaderCheckAsBoolean(t *testing.T) {
	w := newWorld(t)
	for text, want := range map[string]bool{"true": true, "false": false, "'on'": true, "'off'": false} {
		write(t, w.global(), "header_check = "+text)
		c := load(t, w.sources(nil, nil))
		if c.HeaderCheck != want || (value(t, c, "header_check").Text == "on") != want {
			t.Errorf("%s: %v", text, c.HeaderCheck)
		}
	}
}

func TestPasswordIsMasked(t *testing.T) {
	w := newWorld(t)
	c := load(t, w.sources(env{"WALSHIP_ARCHIVE": "sftp://wal:S3CRET@backup/srv"}, nil))
	if c.Archive != "sftp://wal:S3CRET@backup/srv" {
		t.Errorf("archive %q", c.Archive)
	}
	if got := value(t, c, "archive").Text; got != "sftp://wal:***@backup/srv" {
		t.Errorf("shown as %q", got)
	}
}

func TestRequireArchive(t *testing.T) {
	w := newWorld(t)
	if err := load(t, w.sources(nil, map[string]string{"archive": "file:///a"})).RequireArchive(); err != nil {
		t.Error(err)
	}
	err := load(t, w.sources(nil, nil)).RequireArchive()
	want := "configuration: no archive is set: give --archive URL, WALSHIP_ARCHIVE or a line archive = \"URL\" in " + w.user() + " or " + w.global()
	if !errors.Is(err, ErrConfig) || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	write(t, w.global(), "")
	err = load(t, w.sources(nil, nil)).RequireArchive()
	if err == nil || !strings.HasSuffix(err.Error(), "in "+w.global()) {
		t.Errorf("got %v", err)
	}
}

// The page for people has the settings as they are.
func TestDocumentation(t *testing.T) {
	page, err := os.ReadFile("../../docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range Settings() {
		row := fmt.Sprintf("| `%s` | `--%s` | `%s` |", s.Name, s.Flag(), s.Env())
		_, rest, ok := strings.Cut(string(page), row)
		line, _, _ := strings.Cut(rest, "\n")
		if !ok || s.Default != "" && !strings.HasPrefix(line, " `"+s.Default+"` |") {
			t.Errorf("no line %s `%s`", row, s.Default)
		}
		for _, word := range s.Words {
			if !strings.Contains(line, "`"+word+"`") {
				t.Errorf("%s: no word %s", s.Name, word)
			}
		}
	}
	blocks := strings.Split(string(page), "```toml\n")
	if len(blocks) < 3 {
		t.Fatalf("%d examples", len(blocks)-1)
	}
	for _, block := range blocks[1:] {
		w := newWorld(t)
		example, _, _ := strings.Cut(block, "```")
		write(t, w.global(), example)
		if c, err := Load(w.sources(nil, nil)); err != nil || c.Archive == "" {
			t.Errorf("example does not load: %v\n%s", err, example)
		}
	}
}

// Whatever the file holds, Load gives a Config whose values come from it or an
// error of one line.
func FuzzLoad(f *testing.F) {
	for _, seed := range []string{
		"archive = 'sftp://wal@backup/srv/wal'", "timeout = '2m'\nsilence = 'auto'", "header_check = false", "[a]\nb = 1", "a.b = 1",
		"archive = [1, {a = 2}]", "[[codec]]", "\"\" = 1", "codec = '''\nzstd'''", "\xef\xbb\xbfagent = 'off'", "agent = \"\\u0000\"", "ssh_key = '~'",
	} {
		f.Add([]byte(seed))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := parse("walship.toml", data)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\r\n") || !strings.Contains(err.Error(), "walship.toml:") {
				t.Errorf("error without its place, or of several lines: %q", err)
			}
			return
		}
		lines := strings.Count(string(data), "\n") + 1
		for name, e := range entries {
			if e.line < 1 || e.line > lines {
				t.Errorf("%s in line %d of %d", name, e.line, lines)
			}
		}
		file := filepath.Join(dir, "walship.toml")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		src := world{dir, dir}.sources(nil, map[string]string{"config": file})
		c, err := Load(src)
		if err != nil {
			if c != nil || !errors.Is(err, ErrConfig) || strings.ContainsAny(err.Error(), "\r\n") {
				t.Errorf("%+v, %q", c, err)
			}
			return
		}
		for _, v := range c.Values()[1:] {
			if _, ok := entries[v.Name]; ok != strings.HasPrefix(v.Origin, file+":") {
				t.Errorf("%s from %s, in the file: %v", v.Name, v.Origin, ok)
			}
		}
		if c.Timeout <= 0 || c.Silence < 0 {
			t.Errorf("timeout %v, silence %v", c.Timeout, c.Silence)
		}
	})
}
