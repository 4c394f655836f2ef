package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

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
