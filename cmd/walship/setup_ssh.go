package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/crypto/ssh"

	"walship/internal/fault"
	"walship/internal/pgconf"
	"walship/transport"
)

func (p *program) setupSSHCommand() *cli.Command {
	return &cli.Command{
		Name:  "setup ssh",
		Usage: "make a key, trust the archive host, log in, see what it can promise",
		Description: "walship setup ssh --archive sftp://wal@backup.example.com/srv/wal\n\n" +
			"Run it as the user that PostgreSQL runs as, again after each step that it\n" +
			"tells you to do. It logs in with a key of its own, so that the key can be\n" +
			"confined to SFTP, and keeps it beside walship.toml. With --append-only it\n" +
			"prints what the archive host needs so that whoever takes this machine over can\n" +
			"neither change nor remove what is archived, and tries whether that holds.",
		Flags: append(append(commonBut("append-only"), setupFlags()...),
			&cli.BoolFlag{Name: "append-only", Usage: "let the key add to the archive and not change or remove what is there: print what the archive host needs for it, and try to break it"},
			&cli.StringFlag{Name: "host-key", Usage: "fingerprint (SHA256:…) of the host key to trust"},
			&cli.BoolFlag{Name: "accept-new", Usage: "trust the host key that the server shows, if none is known for it"}),
		Action: func(x *cli.Context) error {
			if _, err := arguments(x); err != nil {
				return err
			}
			s, err := p.newSetup(x)
			if err != nil {
				return err
			}
			ctx, cancel := p.limited(x.Context, s.conf)
			defer cancel()
			return s.ssh(ctx)
		},
	}
}

// sshTarget is where and how to log in.
type sshTarget struct {
	url transport.URL
	how transport.SSH
}

func (t sshTarget) String() string {
	if t.url.Port == "" {
		return t.url.Host
	}
	return t.url.Host + ":" + t.url.Port
}

func (s *setup) ssh(ctx context.Context) error {
	if err := s.conf.RequireArchive(); err != nil {
		return err
	}
	u, err := transport.ParseURL(s.conf.Archive)
	if err != nil {
		return err
	}
	if u.Scheme != "sftp" {
		return usage("the archive %s is a folder of this machine: there is no SSH to set up", u)
	}
	t := sshTarget{u, transport.SSH{KeyFile: s.conf.SSHKey, KnownHosts: s.conf.KnownHosts, Silence: s.conf.Silence, AppendOnly: s.conf.AppendOnly}}
	if t.how.KeyFile == "" {
		t.how.KeyFile = s.own("id_ed25519")
	}
	if t.how.KnownHosts == "" {
		t.how.KnownHosts = s.own("known_hosts")
	}
	if t.how.Silence == 0 {
		t.how.Silence = silencePatient
	}

	if err := s.pin(ctx, t); err != nil {
		return err
	}
	public, err := s.key(t.how.KeyFile)
	if err != nil {
		return err
	}
	fault.At("setup.key")
	values := [][2]string{{"archive", u.String()}, {"ssh_key", t.how.KeyFile}, {"known_hosts", t.how.KnownHosts}}
	if s.x.IsSet("durability") {
		values = append(values, [2]string{"durability", s.conf.Durability})
	}
	if s.conf.AppendOnly {
		values = append(values, [2]string{"append_only", "on"})
	}
	if err := s.remember(values...); err != nil {
		return err
	}
	if s.dry && s.changed > 0 {
		s.line("login", "not tried: key and host key have to be in place first")
		s.finish()
		return nil
	}
	return s.login(ctx, t, public)
}

// pin sees to it that the host's key is trusted.
func (s *setup) pin(ctx context.Context, t sshTarget) error {
	shown, err := transport.ShowHostKey(ctx, t.url, t.how)
	if err != nil {
		return err
	}
	named := s.x.String("host-key")
	if named != "" && !strings.HasPrefix(named, "SHA256:") {
		named = "SHA256:" + named
	}
	if named = strings.TrimRight(named, "="); named != "" && named != shown.Fingerprint {
		return transport.WithHint(fmt.Errorf("%w: %s shows the %s key %s, not %s as --host-key says", transport.ErrHostKey, t, shown.Kind, shown.Fingerprint, named),
			fmt.Sprintf("a server has several keys: on the archive host, ssh-keygen -l -f /etc/ssh/ssh_host_%s_key.pub tells the fingerprint of this one; if it differs, someone stands in between", strings.ToLower(shown.Kind)))
	}
	if shown.Trusted == nil {
		s.line("host key", "%s %s of %s is trusted", shown.Kind, shown.Fingerprint, t)
		return nil
	}
	if !shown.Unknown {
		return shown.Trusted // changed or revoked: not to be waved through
	}
	where := fmt.Sprintf("ssh-keygen -l -f /etc/ssh/ssh_host_%s_key.pub", strings.ToLower(shown.Kind))
	if named == "" && !s.x.Bool("accept-new") && !s.dry {
		yes, asked := s.ask(fmt.Sprintf("%s shows the %s key %s, which is unknown here; on the archive host %s tells its fingerprint. Trust this key?", t, shown.Kind, shown.Fingerprint, where))
		if !yes {
			err := fmt.Errorf("%w: %s shows the %s key %s, which is unknown", transport.ErrHostKey, t, shown.Kind, shown.Fingerprint)
			if asked {
				return err
			}
			return transport.WithHint(err, fmt.Sprintf("compare it with what %s says on the archive host, then: --host-key %s; --accept-new trusts it unseen", where, shown.Fingerprint))
		}
	}
	e, err := pgconf.Open(t.how.KnownHosts, 0o644)
	if err != nil {
		return localError(err)
	}
	e.New = pgconf.AppendLine(e.New, shown.Line)
	s.line("host key", "%s %s of %s, now trusted, in %s", shown.Kind, shown.Fingerprint, t, e.Path)
	return s.write(e)
}

// key returns the public half of the key, which it makes if there is none. It
// is nil in a dry run that would make one.
func (s *setup) key(path string) (ssh.PublicKey, error) {
	e, err := pgconf.Open(path, 0o600)
	if err != nil {
		return nil, localError(err)
	}
	e.Secret = true
	if e.Old != nil {
		signer, err := ssh.ParsePrivateKey(e.Old)
		var locked *ssh.PassphraseMissingError
		if errors.As(err, &locked) {
			return nil, transport.WithHint(fmt.Errorf("%w: private key %s is protected by a passphrase, which PostgreSQL cannot type", transport.ErrConfig, path),
				"name another file with --ssh-key: setup makes a key without one")
		}
		if err != nil {
			return nil, fmt.Errorf("%w: private key %s: %s", transport.ErrConfig, path, strings.TrimPrefix(err.Error(), "ssh: "))
		}
		s.line("key", "%s (%s)", path, ssh.FingerprintSHA256(signer.PublicKey()))
		if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
			return nil, transport.WithHint(fmt.Errorf("%w: private key %s can be read by others (mode %04o)", transport.ErrConfig, path, info.Mode().Perm()), "chmod 600 "+path)
		}
		return signer.PublicKey(), s.publicHalf(path, signer.PublicKey())
	}
	if s.dry {
		s.line("key", "%s would be made: ed25519, without a passphrase", path)
		e.New = []byte{}
		return nil, s.write(e)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, keyComment())
	if err != nil {
		return nil, err
	}
	e.New = pem.EncodeToMemory(block)
	half, err := ssh.NewPublicKey(public)
	if err != nil {
		return nil, err
	}
	if err := s.write(e); err != nil {
		return nil, err
	}
	s.line("key", "%s (%s), made: ed25519, without a passphrase", path, ssh.FingerprintSHA256(half))
	return half, s.publicHalf(path, half)
}

// publicHalf writes the .pub file if there is none.
func (s *setup) publicHalf(path string, key ssh.PublicKey) error {
	e, err := pgconf.Open(path+".pub", 0o644)
	if err != nil {
		return localError(err)
	}
	if e.Old == nil {
		e.New = []byte(publicLine(key) + "\n")
	}
	return s.write(e)
}

func keyComment() string {
	host, err := os.Hostname()
	if err != nil {
		return "walship"
	}
	return "walship@" + host
}

func publicLine(key ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) + " " + keyComment()
}

// login logs in and tells what the server can promise, or how to let the key in.
func (s *setup) login(ctx context.Context, t sshTarget, key ssh.PublicKey) error {
	store := transport.OpenSFTP(context.WithoutCancel(ctx), t.url, t.how, transport.None)
	defer func() { _ = store.Close() }()
	promises, err := store.Probe(ctx)
	if errors.Is(err, transport.ErrLogin) {
		err := fmt.Errorf("%w: %s does not let the key in yet", transport.ErrLogin, t)
		if s.conf.AppendOnly {
			s.howToConfine(t, key)
			return transport.WithHint(err, "do the steps above there, then run this again")
		}
		s.howToAdd(t, key)
		return transport.WithHint(err,
			"add the line above to authorized_keys there, then run this again; if it is there, sshd's log on that host tells what it dislikes: often that others may write to the account's home or ~/.ssh, or that the account is locked")
	}
	if errors.Is(err, fs.ErrNotExist) && !s.dry {
		s.line("login", "accepted")
		if err = store.MkdirRoot(ctx); err != nil {
			return fmt.Errorf("the archive's folder %s: %w", t.url.Path, err)
		}
		s.changed++
		s.line("folder", "%s, made", t.url.Path)
		promises, err = store.Probe(ctx)
	} else if err == nil {
		s.line("login", "accepted; the archive's folder is %s", t.url.Path)
	}
	if err != nil {
		return fmt.Errorf("the archive's folder %s: %w", t.url.Path, err)
	}
	if err := s.tell(t, promises); err != nil || !s.conf.AppendOnly {
		return err
	}
	return s.tellAppendOnly(t, promises, key)
}

// howToAdd prints the line that lets the key in, and the ways to add it.
func (s *setup) howToAdd(t sshTarget, key ssh.PublicKey) {
	who := t.url.User
	if who == "" {
		who = "the account"
	}
	s.line("login", "refused. This one line has to go into ~/.ssh/authorized_keys of %s on %s:", who, t.url.Host)
	line := `restrict,command="internal-sftp" ` + publicLine(key)
	s.print("\n%s\n", line)
	port := ""
	if t.url.Port != "" {
		port = "-p " + t.url.Port + " "
	}
	s.line("how", "With a shell there: paste it at the end of the file.")
	to := t.url.Host
	if t.url.User != "" {
		to = t.url.User + "@" + to
	}
	s.line("", "With a password, from here: ssh-copy-id -i %s.pub %s%s, and then put restrict,command=\"internal-sftp\" in front of the key there.", t.how.KeyFile, port, to)
	s.line("", "A storage box: paste it on the provider's page for SSH keys; if that takes only plain keys, leave out what stands before ssh-ed25519.")
}

// tell says what the server promises. The error is ErrNotDurable if that is less
// than what the configuration demands.
func (s *setup) tell(t sshTarget, p transport.Promises) error {
	name := "an SFTP server"
	if p.OpenSSH {
		name = "OpenSSH"
	}
	s.line("server", "%s", name)
	if p.Write != nil {
		return fmt.Errorf("the archive's folder %s cannot be written to: %w", t.url.Path, p.Write)
	}
	s.line("writable", "yes")
	s.line("sync of files", "%s", promise(p.Fsync, "a power cut there may lose or tear the last files"))
	s.line("sync of folders", "%s", promise(p.Folder, "a power cut there may lose the last files as a whole"))
	s.line("no overwriting", "%s", promise(p.NoReplace, "two servers that store one name at the same moment may replace each other's file"))
	switch {
	case p.SpaceKnown && p.Free < littleSpace:
		s.line("free space", "%s of %s: that is little. Once it is used up, PostgreSQL keeps its WAL until its own disk is full", bytesText(p.Free), bytesText(p.Total))
	case p.SpaceKnown:
		s.line("free space", "%s of %s", bytesText(p.Free), bytesText(p.Total))
	default:
		s.line("free space", "the server does not tell")
	}
	best, _ := p.Durability()
	want := durabilities[s.conf.Durability]
	if best <= want {
		s.line("durability", "%s: %s", s.conf.Durability, durabilityText(want))
		if !s.conf.AppendOnly { // more is to be told
			s.finish()
		}
		return nil
	}
	word := durabilityWord(best)
	return transport.WithHint(fmt.Errorf("%w: %s cannot give durability = %q, at best %q: %s", transport.ErrNotDurable, t, s.conf.Durability, word, durabilityText(best)),
		"if that is good enough, run this again with --durability "+word)
}

// littleSpace is less than sixteen segments take that cannot be compressed.
const littleSpace = 16 * 16 << 20

func promise(err error, otherwise string) string {
	if err == nil {
		return "yes"
	}
	return fmt.Sprintf("no (%v): %s", err, otherwise)
}

// durabilities are the words of the configuration.
var durabilities = map[string]transport.Durability{"full": transport.Full, "file": transport.FileOnly, "none": transport.None}

func durabilityWord(d transport.Durability) string {
	for word, is := range durabilities {
		if is == d {
			return word
		}
	}
	return ""
}

func durabilityText(d transport.Durability) string {
	switch d {
	case transport.Full:
		return "what is archived is on stable storage, and nothing is ever replaced"
	case transport.FileOnly:
		return "files are synced, their folder is not: a power cut of the archive host may lose the last files as a whole"
	}
	return "a power cut of the archive host may lose or tear the last files"
}
