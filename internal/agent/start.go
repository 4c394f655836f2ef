package agent

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// maxLog is the size in bytes from which on the log of agents that were started
// on demand begins anew.
const maxLog = 1 << 20

// Start starts an agent in the background and does not wait for it: this program
// with the arguments, the environment env, a session of its own, the root as its
// folder, and no descriptor of ours. What it says goes to agent.log in the folder.
func Start(folder string, arguments, env []string) (err error) {
	if err := private(folder, true); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	name := filepath.Join(folder, "agent.log")
	if info, err := os.Lstat(name); err == nil && info.Size() > maxLog {
		_ = os.Rename(name, name+".old")
	}
	log, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	defer func() {
		if err != nil {
			_, _ = fmt.Fprintf(log, "walship: %s no agent could be started: %v\n", time.Now().Format(time.DateTime), err)
		}
	}()
	if err := keepFromChildren(); err != nil {
		return err
	}
	cmd := exec.Command(self, arguments...)
	cmd.Env = env
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}
