package pgrun

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// ErrOwner says that the server of a data directory cannot be run by this
// process: PostgreSQL refuses to run as root and in a directory of another user.
var ErrOwner = errors.New("the server cannot be run by this user")

// Owner is a user that a server runs as.
type Owner struct {
	Name     string
	Home     string // "" if it is not known
	UID, GID int

	credential *syscall.Credential // nil: this process runs as that user
}

// OwnerOf returns the owner of a data directory, as whom its server is to run: a
// process of root's takes that user's place for it. An error wraps ErrOwner if
// it is root, or a user other than this process's own when that is not root.
func OwnerOf(dir string) (Owner, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return Owner{}, err
	}
	sys, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return Owner{}, fmt.Errorf("%s: its owner is not known on this system", dir)
	}
	o, err := ownerByID(int(sys.Uid))
	if err != nil {
		return Owner{}, fmt.Errorf("%s: %w", dir, err)
	}
	return o, nil
}

// OwnerNamed returns the user of that name, under the same conditions.
func OwnerNamed(name string) (Owner, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return Owner{}, fmt.Errorf("%w: %w", ErrOwner, err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return Owner{}, err
	}
	return ownerByID(uid)
}

// Self returns the user of this process. The error wraps ErrOwner if it is root.
func Self() (Owner, error) { return ownerByID(os.Geteuid()) }

func ownerByID(uid int) (Owner, error) {
	o := Owner{Name: strconv.Itoa(uid), UID: uid, GID: os.Getegid()}
	u, err := user.LookupId(o.Name)
	if err == nil {
		o.Name, o.Home = u.Username, u.HomeDir
		if gid, err := strconv.Atoi(u.Gid); err == nil {
			o.GID = gid
		}
	}
	switch self := os.Geteuid(); {
	case uid == 0:
		return o, fmt.Errorf("%w: it belongs to root, as whom PostgreSQL does not run", ErrOwner)
	case uid == self:
		return o, nil
	case self != 0:
		return o, fmt.Errorf("%w: it belongs to %s, and this is user %d", ErrOwner, o.Name, self)
	}
	o.credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(o.GID)}
	if u != nil {
		groups, _ := u.GroupIds() // without them the main group is left
		for _, g := range groups {
			if gid, err := strconv.ParseUint(g, 10, 32); err == nil {
				o.credential.Groups = append(o.credential.Groups, uint32(gid))
			}
		}
	}
	return o, nil
}

// Give makes the file or folder the owner's.
func (o Owner) Give(path string) error {
	if o.credential == nil {
		return nil
	}
	return os.Lchown(path, o.UID, o.GID)
}

// Command prepares a program to run as the owner, in a session of its own, so
// that a Ctrl-C reaches it only through this process, with this process's
// environment but for what leads PostgreSQL's programs elsewhere.
func (o Owner) Command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = "/"
	cmd.Env = o.environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: o.credential}
	return cmd
}
