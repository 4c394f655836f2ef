package config

import (
	"errors"
	"strings"
	"time"
)

// Setting describes one setting: the command line builds its flags from these,
// Load its Config, and `walship config` its list.
type Setting struct {
	Name    string   // key in the file, such as "ssh_key"
	Default string   // as it would be written; "" = not set
	Words   []string // the only values allowed; nil = see Usage
	Secret  bool     // may hold a password: shown only through MaskURL
	Usage   string   // one line for --help

	path    bool // a path: "~/" and relative ones are resolved
	outside bool // flag and environment only, not in the file
	set     func(c *Config, text string) error
}

// Flag returns the name of the flag without dashes, such as "ssh-key".
func (s Setting) Flag() string { return strings.ReplaceAll(s.Name, "_", "-") }

// Env returns the name of the environment variable, such as "WALSHIP_SSH_KEY".
func (s Setting) Env() string { return "WALSHIP_" + strings.ToUpper(s.Name) }

// Settings returns every setting. config is the first, for Load reads the file
// as soon as it knows which one it is. A new setting is one line here and its
// field in Config.
func Settings() []Setting {
	return []Setting{
		{Name: "config", path: true, outside: true, Usage: "configuration file, instead of the first walship.toml in ~/.config/walship or /etc/walship", set: text(func(c *Config) *string { return &c.File })},
		{Name: "archive", Secret: true, Usage: "URL of the archive: sftp://USER@HOST/PATH or file:///PATH", set: text(func(c *Config) *string { return &c.Archive })},
		{Name: "ssh_key", path: true, Usage: "private key to log in with, instead of those of ssh_config and the ssh agent", set: text(func(c *Config) *string { return &c.SSHKey })},
		{Name: "known_hosts", path: true, Usage: "file with the host keys to trust, instead of ssh_config's", set: text(func(c *Config) *string { return &c.KnownHosts })},
		{Name: "agent", Default: "off", Words: []string{"off", "auto"}, Usage: "auto: push and fetch hand their work to an agent that keeps the connection open and works ahead, and start one if there is none", set: text(func(c *Config) *string { return &c.Agent })},
		{Name: "agent_dir", path: true, Usage: "folder of the agent's socket and log, which must be this user's alone, instead of walship-UID in the folder for temporary files", set: text(func(c *Config) *string { return &c.AgentDir })},
		{Name: "prefetch_memory", Default: "128MB", Usage: "memory for the segments that the agent keeps ready for a recovering server; 0 for none", set: size(func(c *Config) *int64 { return &c.Prefetch })},
		{Name: "timeout", Default: "2m", Usage: "longest that a whole call may take", set: duration(func(c *Config) *time.Duration { return &c.Timeout })},
		{Name: "silence", Default: "auto", Usage: "longest that the archive may say nothing; auto: the mode decides", set: autoDuration(func(c *Config) *time.Duration { return &c.Silence })},
		{Name: "durability", Default: "full", Words: []string{"full", "file", "none"}, Usage: "what the archive must promise: full; file, without the folder's sync; or none", set: text(func(c *Config) *string { return &c.Durability })},
		{Name: "codec", Default: "zstd", Words: []string{"zstd", "gzip", "none"}, Usage: "compression of an archive that init makes", set: text(func(c *Config) *string { return &c.Codec })},
		{Name: "header_check", Default: "on", Words: []string{"on", "off"}, Usage: "check a segment's page header before it is pushed", set: onOff(func(c *Config) *bool { return &c.HeaderCheck })},
	}
}

// shown returns text as it may be shown.
func (s Setting) shown(text string) string {
	if s.Secret {
		return MaskURL(text)
	}
	return text
}

func text(field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, text string) error {
		*field(c) = text
		return nil
	}
}

func onOff(field func(*Config) *bool) func(*Config, string) error {
	return func(c *Config, text string) error {
		*field(c) = text == "on"
		return nil
	}
}

func duration(field func(*Config) *time.Duration) func(*Config, string) error {
	return func(c *Config, text string) error {
		d, err := ParseDuration(text)
		if err != nil {
			return err
		}
		if d == 0 {
			return errors.New("must be more than 0")
		}
		*field(c) = d
		return nil
	}
}

func size(field func(*Config) *int64) func(*Config, string) error {
	return func(c *Config, text string) (err error) {
		*field(c), err = ParseSize(text)
		return err
	}
}

// autoDuration also takes "auto", which it stores as 0.
func autoDuration(field func(*Config) *time.Duration) func(*Config, string) error {
	set := duration(field)
	return func(c *Config, text string) error {
		if text == "auto" {
			*field(c) = 0
			return nil
		}
		return set(c, text)
	}
}
