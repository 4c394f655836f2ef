package testpg

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

// Owner is the user that servers run as.
type Owner struct {
	Name string
	// Credential is nil when this process runs as that user already.
	Credential *syscall.Credential
}

// ServerUser is postgres for root and this process's own user otherwise.
func ServerUser() (Owner, error) {
	if os.Geteuid() != 0 {
		self, err := user.Current()
		if err != nil {
			return Owner{}, err
		}
		return Owner{Name: self.Username}, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return Owner{}, fmt.Errorf("servers may not run as root and there is no user postgres: run scripts/deps (%w)", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return Owner{}, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return Owner{}, err
	}
	return Owner{Name: u.Username, Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}

// Own gives the files and folders, with all that they hold, to the server's
// user. It does nothing when this process runs as that user.
func Own(paths ...string) error {
	owner, err := ServerUser()
	if err != nil || owner.Credential == nil {
		return err
	}
	for _, path := range paths {
		err := filepath.WalkDir(path, func(name string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(name, int(owner.Credential.Uid), int(owner.Credential.Gid))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Dir makes a folder that belongs to the server's user and that this user can
// reach, which is not so of t.TempDir under root. It is removed with all that it
// holds when the test ends.
func Dir(t TB) string {
	t.Helper()
	parent := os.TempDir()
	if os.Geteuid() == 0 {
		parent = "/tmp" // root's own may be closed to others
	}
	dir, err := os.MkdirTemp(parent, "walship-pg-")
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Logf("%v", err)
		}
	})
	if err := Own(dir); err != nil {
		t.Fatalf("%v", err)
	}
	return dir
}

// As makes cmd run as the server's user, in a session of its own (so that
// Ctrl-C reaches it only through this process), and die with this process.
func As(cmd *exec.Cmd) (*exec.Cmd, error) {
	owner, err := ServerUser()
	if err != nil {
		return nil, err
	}
	cmd.SysProcAttr = attributes()
	cmd.SysProcAttr.Setsid = true
	cmd.SysProcAttr.Credential = owner.Credential
	return cmd, nil
}

// reached are the folders of installs that are reachable in their place.
var reached sync.Map

// reachable returns the install where the server's user can execute it: in its
// place or, for one under root's closed home, as a copy in folder.
func reachable(in Install, folder string) (Install, error) {
	if _, ok := reached.Load(in.Bin); ok {
		return in, nil
	}
	cmd, err := As(exec.Command(filepath.Join(in.Bin, "postgres"), "--version"))
	if err != nil {
		return in, err
	}
	cmd.Dir = "/"
	if _, err := run(cmd); err == nil {
		reached.Store(in.Bin, true)
		return in, nil
	}
	copied := filepath.Join(folder, "pg")
	if err := copyTree(filepath.Dir(in.Bin), copied); err != nil {
		return in, err
	}
	return Install{Bin: filepath.Join(copied, "bin"), Major: in.Major}, Own(copied)
}
