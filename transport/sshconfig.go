package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// target is one host as ssh itself would reach it.
type target struct {
	host, port, user string

	keys       []string // private key files, in the order in which they are offered
	onlyKeys   bool     // of the agent, offer only the keys that are in keys
	agent      string   // socket of the agent, "" for none
	knownHosts []string // files, the user's first; they need not exist
	alias      string   // HostKeyAlias: the name in knownHosts, "" for host and port
}

// addr returns host:port for messages and for dialling.
func (t target) addr() string {
	if strings.Contains(t.host, ":") {
		return "[" + t.host + "]:" + t.port
	}
	return t.host + ":" + t.port
}

// resolve finds out how to reach u: what u and o say, then what ssh_config
// says, then ssh's defaults. ssh_config is read by ssh itself (ssh -G), for
// its Match and Include are a language of their own, and only when the user
// has a ~/.ssh/config: without one no process is started.
func resolve(ctx context.Context, u URL, o SSH) (target, error) {
	home, account := whoami()
	t := target{host: u.Host, port: "22", user: account, agent: os.Getenv("SSH_AUTH_SOCK")}
	ssh := func(name string) string { return filepath.Join(home, ".ssh", name) }
	if home != "" {
		t.keys = []string{ssh("id_ed25519"), ssh("id_ecdsa"), ssh("id_rsa")}
		t.knownHosts = append(t.knownHosts, ssh("known_hosts"))
	}
	t.knownHosts = append(t.knownHosts, "/etc/ssh/ssh_known_hosts")
	if home != "" {
		// A config that cannot be looked at is ssh's to complain about.
		if _, err := os.Stat(ssh("config")); !errors.Is(err, fs.ErrNotExist) {
			if err := t.askSSH(ctx, u, ssh("config"), home, o.silence()); err != nil {
				return target{}, err
			}
		}
	}
	if u.User != "" {
		t.user = u.User
	}
	if u.Port != "" {
		t.port = u.Port
	}
	if o.KnownHosts != "" {
		t.knownHosts = []string{tilde(o.KnownHosts, home)}
	}
	if o.KeyFile != "" {
		t.keys, t.onlyKeys = []string{tilde(o.KeyFile, home)}, true
	}
	if t.user == "" {
		return target{}, fmt.Errorf("%w: %s names no user, and this process's own account (uid %d) has no name", ErrConfig, u, os.Getuid())
	}
	return t, nil
}

// whoami returns the home and the name of the account that runs us, "" where
// unknown. PostgreSQL's children have neither HOME nor USER.
func whoami() (home, name string) {
	home = os.Getenv("HOME")
	if me, err := user.Current(); err == nil {
		name = me.Username
		if home == "" {
			home = me.HomeDir
		}
	}
	return home, name
}

// askSSH fills t with what ssh -G says.
func (t *target) askSSH(ctx context.Context, u URL, config, home string, silence time.Duration) error {
	ssh, err := exec.LookPath("ssh")
	if err != nil {
		return WithHint(fmt.Errorf("%w: %s exists, and ssh, which is needed to read it, is not in PATH (%s)", ErrConfig, config, os.Getenv("PATH")),
			"install the OpenSSH client, or remove that file")
	}
	args := []string{"-G"}
	// ssh looks for the file in the home that passwd names, whatever HOME is.
	// With -F it leaves /etc/ssh/ssh_config out, so -F only if it has to be.
	if me, err := user.LookupId(fmt.Sprint(os.Getuid())); err != nil || filepath.Clean(me.HomeDir) != filepath.Clean(home) {
		args = append(args, "-F", config)
	}
	if u.User != "" {
		args = append(args, "-l", u.User)
	}
	if u.Port != "" {
		args = append(args, "-p", u.Port)
	}
	args = append(args, "--", u.Host)

	limit, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	cmd := exec.CommandContext(limit, ssh, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // with what Match exec starts
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %s: %w at: reading %s", ErrUnreachable, u.Host, ctx.Err(), config)
		}
		if limit.Err() != nil {
			return fmt.Errorf("%w: ssh -G %s, which reads %s, did not end within %s (a Match exec in it?)", ErrConfig, u.Host, config, silence)
		}
		return fmt.Errorf("%w: ssh -G %s, which reads %s: %w: %s", ErrConfig, u.Host, config, err, oneLine(errs.String()))
	}
	return t.read(out.String(), u.Host, config, home)
}

// read takes over what ssh -G has printed, one lower-case keyword and its
// value a line.
func (t *target) read(out, name, config, home string) error {
	t.keys = nil
	var userHosts, globalHosts []string
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		if value == "" {
			continue
		}
		switch key {
		case "hostname":
			t.host = value
		case "user":
			t.user = value
		case "port":
			t.port = value
		case "identityfile":
			if value != "none" {
				t.keys = append(t.keys, t.expand(value, home))
			}
		case "identitiesonly":
			t.onlyKeys = value == "yes" || value == "true"
		case "identityagent":
			t.agent = t.socket(value, home)
		case "userknownhostsfile":
			userHosts = strings.Fields(value)
		case "globalknownhostsfile":
			globalHosts = strings.Fields(value)
		case "hostkeyalias":
			t.alias = value
		case "proxyjump", "proxycommand":
			if value != "none" {
				return WithHint(fmt.Errorf("%w: %s gives %s %s %q, which is not supported", ErrConfig, config, name, key, value),
					fmt.Sprintf("name a host in the archive URL that is reached directly, set ProxyJump and ProxyCommand to none for it in %s, or keep a forwarding open (ssh -N -L 2222:%s:%s JUMPHOST, with HostKeyAlias %[2]s) and use its port", config, t.host, t.port))
			}
		}
	}
	t.knownHosts = nil
	for _, f := range append(userHosts, globalHosts...) {
		if f != "none" {
			t.knownHosts = append(t.knownHosts, t.expand(f, home))
		}
	}
	return nil
}

// socket returns the path that an IdentityAgent means.
func (t *target) socket(value, home string) string {
	switch {
	case value == "none":
		return ""
	case value == "SSH_AUTH_SOCK":
		return os.Getenv("SSH_AUTH_SOCK")
	case strings.HasPrefix(value, "$"):
		return os.Getenv(strings.Trim(value[1:], "{}"))
	}
	return t.expand(value, home)
}

// expand replaces the ~ and those % tokens that ssh -G leaves in file names.
func (t *target) expand(name, home string) string {
	return tilde(strings.NewReplacer("%%", "%", "%d", home, "%h", t.host, "%p", t.port, "%r", t.user).Replace(name), home)
}

func tilde(name, home string) string {
	if name == "~" || strings.HasPrefix(name, "~/") {
		return filepath.Join(home, name[1:])
	}
	return name
}

// oneLine joins the lines of s, without control characters.
func oneLine(s string) string {
	s = strings.Join(strings.FieldsFunc(strings.TrimSpace(s), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}
