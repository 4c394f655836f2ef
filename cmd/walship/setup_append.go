package main

import (
	"fmt"
	"path"
	"strings"

	"golang.org/x/crypto/ssh"

	"walship/transport"
)

// appendOnlyRequests are the requests of sftp-server(8) -p that an account needs
// which adds to an archive and reads it. None of them changes or removes a file
// whose mode is 0440, and none changes a mode. It is a list of what is allowed,
// so that what a later OpenSSH adds is refused.
const appendOnlyRequests = "open,close,read,write,lstat,fstat,stat,opendir,readdir,readlink,realpath," +
	"mkdir,hardlink,fsync,statvfs,fstatvfs,limits,expand-path"

// appendOnlyCommand is what the key is confined to.
const appendOnlyCommand = `restrict,command="internal-sftp -p ` + appendOnlyRequests + `"`

// How long the lines are that an administrator copies is none of the screen's
// business: they are printed as they are.

// howToConfine prints what makes the archive host keep what the key adds.
func (s *setup) howToConfine(t sshTarget, key ssh.PublicKey) {
	user := t.url.User
	if user == "" || user == "root" { // root cannot be kept from anything
		user = "wal"
	}
	top, archive := path.Dir(t.url.Path), "/"+path.Base(t.url.Path)
	if !path.IsAbs(top) || top == "/" {
		top = "/srv/walship"
	}
	const keys = "/etc/ssh/walship_keys"
	s.line("append-only", "so that this key can add to the archive and not change or remove what is there. As root on %s:", t.url.Host)
	s.print("")
	s.line("1", "an account that is not root, in a folder that is root's; what is archived already becomes read-only:")
	s.print("")
	s.print("id %s || useradd --shell /usr/sbin/nologin %s", user, user)
	s.print("install -d -o root -g root -m 755 %s", top)
	s.print("install -d -o %s -g %s -m 750 %s", user, user, path.Join(top, archive))
	s.print("find %s -type f -exec chmod a-w {} +", path.Join(top, archive))
	s.print("")
	s.line("2", "at the end of /etc/ssh/sshd_config, then sshd -t && systemctl reload ssh:")
	s.print("")
	s.print("Match User %s", user)
	for _, line := range appendOnlyMatch(top, keys) {
		s.print("    %s", line)
	}
	s.print("")
	s.line("3", "in %s, which belongs to root (mode 644): this key, and another one that may remove, which must never lie on the primary:", keys)
	s.print("")
	s.print("%s %s", appendOnlyCommand, publicLine(key))
	s.print(`restrict,command="internal-sftp" ssh-ed25519 AAAA… whoever runs walship prune`)
	s.print("")
	if archive != t.url.Path {
		s.line("4", "the archive's path is then %s, as seen from within the ChrootDirectory: --archive sftp://%s@%s%s", archive, user, t, archive)
	}
	s.appendOnlyCosts()
}

// appendOnlyMatch are the lines of the Match block.
func appendOnlyMatch(chroot, keys string) []string {
	return []string{
		"ChrootDirectory " + chroot,
		"AuthorizedKeysFile " + keys,
		"AuthenticationMethods publickey",
		"AllowTcpForwarding no",
		"AllowAgentForwarding no",
		"AllowStreamLocalForwarding no",
		"X11Forwarding no",
		"PermitTunnel no",
		"PermitUserRC no",
	}
}

// appendOnlyCosts says what there is to live with.
func (s *setup) appendOnlyCosts() {
	s.line("what it costs", "walship prune, and moving a damaged file aside, need the other key, on another machine, and a walship.toml without append_only there. So do new encryption recipients (walship init --recipient).")
	s.line("", "A second name of each file stays in tmp/ until walship prune has swept it: until then nothing that is pruned frees its space.")
	s.line("", "Files have the mode 0440. What an unfinished backup has stored stays until walship prune.")
	s.line("", "It protects what is there. Whoever has the key can still read the archive, fill its disk, and add files that lie: rules of prune that count backups can be made to drop honest ones, so look at its plan.")
}

// tellAppendOnly says whether the host keeps what the key adds. The error is
// ErrNotDurable if it does not.
func (s *setup) tellAppendOnly(t sshTarget, p transport.Promises, key ssh.PublicKey) error {
	if len(p.Loopholes) == 0 {
		s.line("append-only", "yes: to overwrite, truncate, rename and remove a file, and to change its mode, was tried and refused; a ChrootDirectory confines the account")
		s.appendOnlyCosts()
		s.finish()
		return nil
	}
	s.howToConfine(t, key)
	return transport.WithHint(fmt.Errorf("%w: %s is not append-only: the key can %s", transport.ErrNotDurable, t, strings.Join(p.Loopholes, "; ")),
		"do the steps above, then run this again")
}
