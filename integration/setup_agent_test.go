package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"walship/internal/testbin"
	"walship/internal/testpg"
)

// The agent's unit is written beside the configuration, which then says that the
// agent is used; root is told how to install it. What the unit starts is the agent
// that the server's calls find.
func TestSetupAgentService(t *testing.T) {
	t.Parallel()
	r := newRecipe(t, testpg.Options{})
	unit, sockets := r.config("walship-agent.service"), filepath.Join(testpg.Dir(t), "agent")
	program := testbin.Program(r.binary)
	r.setupPrimary(0, []string{"+ExecStart=" + program + " --config " + r.config("walship.toml") + " agent", `+agent = "auto"`}, "--agent-service", "--agent-dir", sockets, "--dry-run")
	if _, err := os.Stat(unit); err == nil {
		t.Fatal("a dry run has written it")
	}
	r.setupPrimary(0, []string{"wrote " + unit, "sudo install -m 0644 " + unit + " /etc/systemd/system/ sudo systemctl enable --now walship-agent.service"}, "--agent-service", "--agent-dir", sockets)
	owner, err := testpg.ServerUser()
	must(t, err)
	text, err := os.ReadFile(unit)
	must(t, err)
	for _, line := range []string{"User=" + owner.Name, "ExecStart=" + program + " --config " + r.config("walship.toml") + " agent", "WantedBy=multi-user.target"} {
		if !strings.Contains(string(text), "\n"+line+"\n") {
			t.Errorf("no line %q in\n%s", line, text)
		}
	}

	// As systemd starts it, and as the server calls it: without HOME.
	_, line, _ := strings.Cut(string(text), "ExecStart=")
	line, _, _ = strings.Cut(line, "\n")
	words := strings.Fields(line)
	who, err := user.Lookup(owner.Name)
	must(t, err)
	service, err := testpg.As(exec.Command(words[0], words[1:]...))
	must(t, err)
	service.Dir, service.Env = "/", []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + who.HomeDir, "USER=" + who.Username, "LOGNAME=" + who.Username}
	must(t, service.Start())
	stopped := make(chan error, 1)
	go func() { stopped <- service.Wait() }()
	t.Cleanup(func() {
		r.run("agent", "stop", "--all") // also one that a call has started
		_ = service.Process.Kill()      // it may have ended
	})
	status := func() string { return r.run("agent", "status").stdout }
	testpg.WaitFor(t, soon, "the agent", func() bool { return strings.Contains(status(), fmt.Sprintf("agent %d,", service.Process.Pid)) })
	must(t, r.primary.Restart(testpg.Fast))
	r.setupPrimary(0, []string{"archiving works"})
	if now := status(); strings.Count(now, "agent ") != 1 || strings.Contains(now, " 0 pushed") {
		t.Errorf("the server's calls have not found the agent:\n%s", now)
	}
	settled := r.settled()
	r.setupPrimary(0, []string{"everything is as it should be"}, "--agent-service")
	r.setupPrimary(0, []string{"everything is as it should be"})
	same(t, "a second run", settled, r.settled())
	must(t, r.primary.Stop(testpg.Fast)) // no call starts another agent then
	must(t, service.Process.Signal(syscall.SIGTERM))
	select {
	case <-stopped:
	case <-time.After(soon):
		t.Error("the agent does not end")
	}
	r.want(0, []string{"removed " + unit}, "setup", "undo")
}
