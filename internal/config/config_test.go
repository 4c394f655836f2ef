package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
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

// checkURL stands for the archive's own check: it quotes what it was given.
func checkURL(text string) error {
	u, err := url.Parse(text)
	if err == nil && u.Scheme != "sftp" && u.Scheme != "file" {
		err = fmt.Errorf("%q is neither sftp:// nor file://", text)
	}
	return err
}

func TestValueErrors(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"archive", "S3://wal", `archive "S3://wal" (flag --archive): "S3://wal" is neither sftp:// nor file://`},
		{"archive", "ftp://wal:S3CRET@backup/", `archive "ftp://wal:***@backup/" (flag --archive): "ftp://wal:***@backup/" is neither sftp:// nor file://`},
		{"archive", "sftp://wal:S3C/RET@backup/", `archive "sftp://wal:***@backup/" (flag --archive): not a valid URL: the password has to be percent-encoded`},
		{"archive", "", `archive "" (flag --archive): empty; leave it out if it is not meant to be set`},
		{"config", "", `config "" (flag --config): empty; leave it out if it is not meant to be set`},
		{"ssh_key", "~postgres/key", `ssh_key "~postgres/key" (flag --ssh-key): another user's home is not looked up: write the whole path`},
		{"ssh_key", "a\x00b", `ssh_key "a\x00b" (flag --ssh-key): holds a NUL byte`},
		{"agent", "on", `agent "on" (flag --agent): want off or auto`},
		{"timeout", "90", `timeout "90" (flag --timeout): 90 lacks a unit, want for example 90s, 90m, 90h or 90d`},
		{"timeout", "0s", `timeout "0s" (flag --timeout): must be more than 0`},
		{"timeout", "-1s", `timeout "-1s" (flag --timeout): a duration cannot be negative`},
		{"timeout", "a\nb", `timeout "a\nb" (flag --timeout): not a duration, want for example 30s, 5m, 1h30m or 30d`},
		{"silence", "0s", `silence "0s" (flag --silence): must be more than 0`},
		{"durability", "FULL", `durability "FULL" (flag --durability): want full, file or none`},
		{"codec", "lz4", `codec "lz4" (flag --codec): want zstd, gzip or none`},
		{"header_check", "true", `header_check "true" (flag --header-check): want on or off`},
		{"colour", "red", `--colour is not a setting`},
	} {
		w := newWorld(t)
		src := w.sources(nil, map[string]string{strings.ReplaceAll(test.name, "_", "-"): test.text})
		src.CheckArchive = checkURL
		c, err := Load(src)
		wantError(t, c, err, test.want)
	}
}

func wantError(t *testing.T, c *Config, err error, want string) {
	t.Helper()
	if c != nil || err == nil || err.Error() != "configuration: "+want {
		t.Errorf("\ngot  %+v, %v\nwant configuration: %s", c, err, want)
		return
	}
	if !errors.Is(err, ErrConfig) || errors.Is(err, fs.ErrNotExist) || strings.ContainsAny(err.Error(), "\r\n") {
		t.Errorf("%q: not ErrConfig, or fs.ErrNotExist, or of several lines", err)
	}
}

// A wrong value counts even where a stronger source overrides it.
func TestOverriddenErrors(t *testing.T) {
	w := newWorld(t)
	c, err := Load(w.sources(env{"WALSHIP_TIMEOUT": "soon"}, map[string]string{"timeout": "1m"}))
	wantError(t, c, err, `timeout "soon" (environment WALSHIP_TIMEOUT): not a duration, want for example 30s, 5m, 1h30m or 30d`)
	write(t, w.global(), "timeout = 'soon'")
	c, err = Load(w.sources(nil, map[string]string{"timeout": "1m"}))
	wantError(t, c, err, `timeout "soon" (`+w.global()+`:1): not a duration, want for example 30s, 5m, 1h30m or 30d`)
}

func TestFileErrors(t *testing.T) {
	const all = "want archive, ssh_key, known_hosts, agent, agent_dir, prefetch_memory, connections, timeout, silence, durability, append_only, codec, recipients, recipients_file, identity_file or header_check"
	for _, test := range []struct{ toml, want string }{
		{"\narchve = 'x'", `FILE:2: unknown key "archve": did you mean "archive"?`},
		{"ssh-key = 'x'", `FILE:1: unknown key "ssh-key": did you mean "ssh_key"?`},
		{"SSH_Key = 'x'", `FILE:1: unknown key "SSH_Key": did you mean "ssh_key"?`},
		{"codecs = 'x'", `FILE:1: unknown key "codecs": did you mean "codec"?`},
		{"knownhosts = 'x'", `FILE:1: unknown key "knownhosts": did you mean "known_hosts"?`},
		{"compression = 'x'", `FILE:1: unknown key "compression": ` + all},
		{"config = 'x'", `FILE:1: unknown key "config": ` + all},
		{"'a\\nb' = 1", `FILE:1: unknown key "a\\nb": ` + all},
		{"# a\n[walship]\narchive = 'x'", `FILE:2: unknown table "walship": settings stand at the top of the file, in no table`},
		{"\n\na.b.c = 1\n", `FILE:3: unknown table "a": settings stand at the top of the file, in no table`},
		{"\na.b = 1\na.c = 1\na.d = 1\na.e = 1\na.f = 1\na.g = 1\na.h = 1", `FILE:2: unknown table "a": settings stand at the top of the file, in no table`},
		{"zzzzzz = 1\narchve = 'x'\ntimeout = 1", `FILE:1: unknown key "zzzzzz": ` + all},
		{"timeout = 120", `timeout (FILE:1): want text in quotes such as timeout = "2m", not 120`},
		{"timeout = 1.5", `timeout (FILE:1): want text in quotes such as timeout = "2m", not 1.5`},
		{"agent = true", `agent (FILE:1): want text in quotes such as agent = "off", not true`},
		{"archive = 12", `archive (FILE:1): want text in quotes, not 12`},
		{"archive = ['sftp://wal:S3CRET@b/']", `archive (FILE:1): want text in quotes, not a list`},
		{"timeout = 2024-01-01", `timeout (FILE:1): want text in quotes such as timeout = "2m", not a date`},
		{"[[codec]]", `codec (FILE:1): want text in quotes such as codec = "zstd", not a list`},
		{"\n[codec]\nname='zstd'", `codec (FILE:2): want text in quotes such as codec = "zstd", not a table`},
		{"\ncodec.name='zstd'", `codec (FILE:2): want text in quotes such as codec = "zstd", not a table`},
		{"recipients = 1", `recipients (FILE:1): want text in quotes, not 1`},
		{"recipients = [1]", `recipients (FILE:1): want texts in quotes, not 1`},
		{"recipients = ['joe']", `recipients "***" (FILE:1): recipients: one is of no known kind: want age1…, age1pq1…, "ssh-ed25519 …" or "ssh-rsa …"`},
		{"recipients = ['AGE-SECRET-KEY-1UFDAKGTKHA7DEDVNUVC2FS3G8SDSC04QDNYZ58M7RGLE0CQ2W0SQ2FW49W']", `recipients "***" (FILE:1): recipients: one is a secret key: a recipient is the public one, which age-keygen -y shows`},
		{"header_check = 1", `header_check (FILE:1): want text in quotes such as header_check = "on", not 1`},
		{"\ncodec = ''", `codec "" (FILE:2): empty; leave it out if it is not meant to be set`},
		{"\n\ncodec = 'lz4'", `codec "lz4" (FILE:3): want zstd, gzip or none`},
		{"archive = 's3://wal:S3CRET@b/'", `archive "s3://wal:***@b/" (FILE:1): "s3://wal:***@b/" is neither sftp:// nor file://`},
		{"\nagent = auto", `FILE:2: expected value but found "auto" instead (text stands in quotes: key = "text")`},
		{"\narchive = sftp://wal:S3CRET@b/", `FILE:2: expected value but found "sftp" instead (text stands in quotes: key = "text")`},
		{"archive = 'sftp://wal:S3CRET@b/\n", `FILE:1: strings cannot contain newlines`},
		{"codec = 'zstd'\ncodec = 'gzip'", `FILE:2: Key 'codec' has already been defined.`},
		{"codec\n", `FILE:1: expected '.' or '=', but got '\n' instead`},
	} {
		w := newWorld(t)
		file := write(t, w.global(), test.toml)
		src := w.sources(nil, nil)
		src.CheckArchive = checkURL
		c, err := Load(src)
		wantError(t, c, err, strings.ReplaceAll(test.want, "FILE", file))
	}
}

func TestUnreadableFiles(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	missing, pipe := filepath.Join(dir, "missing.toml"), filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	big := write(t, filepath.Join(dir, "big"), strings.Repeat("#", maxFile+1))
	for _, test := range []struct {
		env   env
		flags map[string]string
		want  string
	}{
		{nil, map[string]string{"config": missing}, "cannot read " + missing + " (flag --config): no such file or directory"},
		{env{"WALSHIP_CONFIG": missing}, nil, "cannot read " + missing + " (environment WALSHIP_CONFIG): no such file or directory"},
		{nil, map[string]string{"config": dir}, "cannot read " + dir + " (flag --config): not an ordinary file"},
		{nil, map[string]string{"config": pipe}, "cannot read " + pipe + " (flag --config): not an ordinary file"},
		{nil, map[string]string{"config": big}, "cannot read " + big + " (flag --config): larger than 1048576 bytes"},
	} {
		c, err := Load(w.sources(test.env, test.flags))
		wantError(t, c, err, test.want)
	}
	if err := os.MkdirAll(w.global(), 0o755); err != nil {
		t.Fatal(err)
	}
	c, err := Load(w.sources(nil, nil))
	wantError(t, c, err, "cannot read "+w.global()+" (searched by default, --config names another): not an ordinary file")
}

func TestNoHomeForTilde(t *testing.T) {
	w := newWorld(t)
	src := w.sources(nil, map[string]string{"ssh-key": "~/key"})
	src.UserHome = func() (string, error) { return "", errors.New("no such user") }
	c, err := Load(src)
	wantError(t, c, err, `ssh_key "~/key" (flag --ssh-key): no home folder for ~: HOME is not set, and no such user`)
	c, err = Load(w.sources(env{"HOME": "here"}, src.Flags))
	wantError(t, c, err, `ssh_key "~/key" (flag --ssh-key): no home folder for ~: "here" is no absolute path`)
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
