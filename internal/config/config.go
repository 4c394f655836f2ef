// Package config works out the effective settings: flag over environment over
// file over default, each value with the place that it came from. It reads one
// TOML file and looks at nothing else: it opens no key, resolves no host and
// prints nothing.
package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"
)

// ErrConfig is wrapped by every error of Load and RequireArchive.
var ErrConfig = errors.New("configuration")

// Config is the effective configuration. It is not changed after Load and may
// be read concurrently.
type Config struct {
	Archive     string        // URL as given, password included; "" = not set; the first of Archives
	Archives    []string      // every archive in force, in the order of the file; empty if Archive is
	SSHKey      string        // path of a private key; "" = leave it to ssh_config and the ssh agent
	KnownHosts  string        // path; "" = leave it to ssh_config
	Agent       string        // "off" or "auto"
	AgentDir    string        // folder of the agent's socket; "" = leave it to package agent
	Prefetch    int64         // bytes that the agent may keep for recovering servers
	Connections int           // over how many logins the agent may spread its work, 1 to 8
	Timeout     time.Duration // of a whole call, > 0
	Silence     time.Duration // longest that the archive may say nothing; 0 = the mode decides
	Durability  string        // "full", "file" or "none"
	AppendOnly  bool          // the account may add to the archive and not change or remove
	Codec       string        // "zstd", "gzip" or "none": for the archives that init makes
	HeaderCheck bool          // check page headers before a push

	Recipients     []string // to whom alone files may be encrypted, as given; none = whom the archive names
	RecipientsFile string   // path of a file with more of them; "" = not set
	IdentityFile   string   // path of the keys that open what is encrypted; "" = not set

	// File is the configuration file in use, "" if there is none. A relative
	// --config stays relative to the working directory.
	File string

	values   []Value
	searched []string // default files that were looked for, in order
}

// Value is one setting as `walship config` shows it.
type Value struct {
	Name   string // as in the file; "archives" stands for archive where the file lists several
	Text   string // safe to show: a password in a URL is masked; "" = not set
	Origin string // "flag --timeout", "environment WALSHIP_TIMEOUT", "/etc/walship/walship.toml:3" or "default"
	Secret bool   // the setting may hold a password

	raw string // as it is in force
}

// Values returns every setting in the order of Settings.
func (c *Config) Values() []Value {
	values := slices.Clone(c.values)
	for i := range values {
		values[i].raw = ""
	}
	return values
}

// RequireArchive returns nil if an archive is set, else an error that says
// where one can be set.
func (c *Config) RequireArchive() error {
	if c.Archive != "" {
		return nil
	}
	where := c.File
	if where == "" {
		where = strings.Join(c.searched, " or ")
	}
	return fmt.Errorf("%w: no archive is set: give --archive URL, WALSHIP_ARCHIVE or a line archive = \"URL\" in %s", ErrConfig, printable(where))
}

// Sources is where Load looks. The zero value means this process's environment
// and no flags.
type Sources struct {
	// Flags holds the flags that stood on the command line, by Setting.Flag.
	// An empty value is an error, for it is mostly a shell variable gone missing.
	Flags map[string]string

	// LookupEnv is os.LookupEnv if nil. An empty variable counts as not set.
	LookupEnv func(string) (string, bool)

	// UserHome is asked when HOME is not set, as in what PostgreSQL starts.
	// If nil, the passwd entry of the user answers.
	UserHome func() (string, error)

	// SystemDir holds the system-wide walship.toml; "" means /etc/walship.
	SystemDir string

	// CheckArchive, if not nil, is asked about every archive URL that is given.
	// After it refused a URL with a password it is asked again with the masked
	// one, so that its message cannot repeat the password.
	CheckArchive func(url string) error
}

// Load returns the effective configuration.
//
// Every value that is given has to be valid, also one that a stronger source
// overrides, so that dropping a flag brings no surprise. The first fault found
// is returned, in one line that names the setting, the value and its origin,
// and the Config is nil. No such error is fs.ErrNotExist, not even that of a
// missing file, since that would read as "not in the archive".
func Load(src Sources) (*Config, error) {
	l := loader{Sources: src, config: &Config{}}
	if l.LookupEnv == nil {
		l.LookupEnv = os.LookupEnv
	}
	if l.UserHome == nil {
		l.UserHome = passwdHome
	}
	if l.SystemDir == "" {
		l.SystemDir = "/etc/walship"
	}
	if err := l.load(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return l.config, nil
}

// loader is one run of Load. Its sources are all filled in.
type loader struct {
	Sources
	config *Config
}

func (l *loader) load() error {
	settings := Settings()
	for _, flag := range slices.Sorted(maps.Keys(l.Flags)) {
		if !slices.ContainsFunc(settings, func(s Setting) bool { return s.Flag() == flag }) {
			return fmt.Errorf("--%s is not a setting", printable(flag))
		}
	}
	var file map[string]entry
	for _, s := range settings {
		value := Value{Name: s.Name, Origin: "default", Secret: s.Secret}
		take := func(text, origin, dir string) error {
			raw, err := l.apply(s, text, dir)
			if err != nil {
				return fmt.Errorf("%s %q (%s): %w", s.Name, s.shown(text), origin, err)
			}
			value.Name, value.Text, value.raw, value.Origin = s.Name, s.shown(raw), raw, origin
			return nil
		}
		if s.Default != "" {
			if err := take(s.Default, "default", ""); err != nil {
				return err
			}
		}
		if e, ok := file[s.Name]; ok {
			origin := fmt.Sprintf("%s:%d", printable(l.config.File), e.line)
			if e.list != nil {
				if err := l.applyList(s, e.list, &value, origin); err != nil {
					return err
				}
			} else if err := take(e.text, origin, filepath.Dir(l.config.File)); err != nil {
				return err
			}
		}
		if text, ok := l.LookupEnv(s.Env()); ok && text != "" {
			if err := take(text, "environment "+s.Env(), ""); err != nil {
				return err
			}
		}
		if text, ok := l.Flags[s.Flag()]; ok {
			if err := take(text, "flag --"+s.Flag(), ""); err != nil {
				return err
			}
		}
		if s.Name == "config" { // the first of them: the rest may stand in that file
			var err error
			if file, err = l.readFile(value.Origin); err != nil {
				return err
			}
			value.Text = l.config.File
		}
		l.config.values = append(l.config.values, value)
	}
	return nil
}

// apply checks text and stores it in the Config. A relative path is taken from
// dir. It returns the value as it is in force.
func (l *loader) apply(s Setting, text, dir string) (raw string, err error) {
	switch {
	case text == "":
		return "", errors.New("empty; leave it out if it is not meant to be set")
	case strings.ContainsRune(text, 0):
		return "", errors.New("holds a NUL byte")
	case len(s.Words) > 0 && !slices.Contains(s.Words, text):
		return "", fmt.Errorf("want %s", anyOf(s.Words))
	}
	if s.path {
		if text, err = l.path(text, dir); err != nil {
			return "", err
		}
	}
	if s.Name == "archive" {
		if err := l.checkArchive(text); err != nil {
			return "", err
		}
	}
	return text, s.set(l.config, text)
}

func (l *loader) checkArchive(url string) error {
	if l.CheckArchive == nil {
		return nil
	}
	err := l.CheckArchive(url)
	masked := MaskURL(url)
	if err == nil || masked == url {
		return err
	}
	if err := l.CheckArchive(masked); err != nil {
		return err
	}
	return errors.New("not a valid URL: the password has to be percent-encoded")
}

// anyOf writes a list of words as "a, b or c".
func anyOf(words []string) string {
	n := len(words) - 1
	if n == 0 {
		return words[0]
	}
	return strings.Join(words[:n], ", ") + " or " + words[n]
}

// printable keeps a message on one line: text with anything but printable
// characters comes back quoted.
func printable(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Sprintf("%q", text)
	}
	return text
}
