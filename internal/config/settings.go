package config

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"walship/internal/crypt"
)

// Setting describes one setting: the command line builds its flags from these,
// Load its Config, and `walship config` its list.
type Setting struct {
	Name    string   // key in the file, such as "ssh_key"
	Default string   // as it would be written; "" = not set
	Words   []string // the only values allowed; nil = see Usage
	Secret  bool     // may hold a password: shown only through MaskURL
	Usage   string   // one line for --help

	number  bool                     // a number, which the file may have without quotes
	list    bool                     // several values: a list in the file, divided by commas elsewhere
	path    bool                     // a path: "~/" and relative ones are resolved
	outside bool                     // flag and environment only, not in the file
	show    func(text string) string // how it may be shown; nil = as it is
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
		{Name: "archive", Secret: true, Usage: "URL of the archive: sftp://USER@HOST/PATH or file:///PATH; it takes the place of all that the file lists", set: archive},
		{Name: "ssh_key", path: true, Usage: "private key to log in with, instead of those of ssh_config and the ssh agent", set: text(func(c *Config) *string { return &c.SSHKey })},
		{Name: "known_hosts", path: true, Usage: "file with the host keys to trust, instead of ssh_config's", set: text(func(c *Config) *string { return &c.KnownHosts })},
		{Name: "agent", Default: "off", Words: []string{"off", "auto"}, Usage: "auto: push and fetch hand their work to an agent that keeps the connection open and works ahead, and start one if there is none", set: text(func(c *Config) *string { return &c.Agent })},
		{Name: "agent_dir", path: true, Usage: "folder of the agent's socket and log, which must be this user's alone, instead of walship-UID in the folder for temporary files", set: text(func(c *Config) *string { return &c.AgentDir })},
		{Name: "prefetch_memory", Default: "128MB", Usage: "memory for the segments that the agent keeps ready for a recovering server; 0 for none", set: size(func(c *Config) *int64 { return &c.Prefetch })},
		{Name: "connections", Default: "1", number: true, Usage: "over how many logins the agent may spread its work, 1 to 8; what the archive host allows decides", set: connections},
		{Name: "timeout", Default: "2m", Usage: "longest that a whole call may take; not of backup, restore, verify, prune, sync, the agent, nor of setup but for setup ssh", set: duration(func(c *Config) *time.Duration { return &c.Timeout })},
		{Name: "silence", Default: "auto", Usage: "longest that the archive may say nothing; auto: the mode decides", set: autoDuration(func(c *Config) *time.Duration { return &c.Silence })},
		{Name: "durability", Default: "full", Words: []string{"full", "file", "none"}, Usage: "what the archive must promise: full; file, without the folder's sync; or none", set: text(func(c *Config) *string { return &c.Durability })},
		{Name: "append_only", Default: "off", Words: []string{"on", "off"}, Usage: "on: the account may only add to the archive; see walship setup ssh --append-only", set: onOff(func(c *Config) *bool { return &c.AppendOnly })},
		{Name: "codec", Default: "zstd", Words: []string{"zstd", "gzip", "none"}, Usage: "compression of an archive that init or setup primary makes", set: text(func(c *Config) *string { return &c.Codec })},
		{Name: "recipients", list: true, show: shownRecipients, Usage: "to whom alone files may be encrypted, as age -r takes them, divided by commas; read by init, setup primary, push and backup", set: recipients},
		{Name: "recipients_file", path: true, Usage: "file with such recipients, as age -R takes it", set: text(func(c *Config) *string { return &c.RecipientsFile })},
		{Name: "identity_file", path: true, Usage: "file with the key that opens what is encrypted, as age -i takes it", set: text(func(c *Config) *string { return &c.IdentityFile })},
		{Name: "header_check", Default: "on", Words: []string{"on", "off"}, Usage: "check a segment's page header before it is pushed", set: onOff(func(c *Config) *bool { return &c.HeaderCheck })},
	}
}

// shown returns text as it may be shown.
func (s Setting) shown(text string) string {
	switch {
	case s.Secret:
		return MaskURL(text)
	case s.show != nil:
		return s.show(text)
	}
	return text
}

// divide are the values of a list.
func divide(text string) (values []string) {
	for _, v := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == '\n' }) {
		if v = strings.TrimSpace(v); v != "" {
			values = append(values, v)
		}
	}
	return values
}

func recipients(c *Config, text string) error {
	_, err := crypt.ParseRecipients(divide(text))
	c.Recipients = divide(text)
	return err
}

// shownRecipients shows nothing of what is none: it may be a secret key.
func shownRecipients(text string) string {
	var names []string
	for _, one := range divide(text) {
		if _, err := crypt.ParseRecipients([]string{one}); err != nil {
			one = "***"
		}
		names = append(names, one)
	}
	return strings.Join(names, ", ")
}

func connections(c *Config, text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 8 {
		return errors.New("want a number from 1 to 8")
	}
	c.Connections = n
	return nil
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
