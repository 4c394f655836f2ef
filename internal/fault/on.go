//go:build fault

package fault

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// Env names the variable that holds the faults of this run, separated by
// commas: "STEP=ACTION". The actions are
//
//	kill   SIGKILL to this process
//	stop   SIGSTOP to this process (the test resumes it with SIGCONT)
//	panic  a panic in a goroutine of its own
//	hang   block this goroutine for good
//	skip   leave the step out (a deliberately broken build)
const Env = "WALSHIP_FAULT"

// At carries out what Env asks for at step.
func At(step string) {
	switch action(step) {
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "stop":
		stop()
	case "panic":
		go func() { panic(fmt.Sprintf("fault injected at %s", step)) }()
		select {}
	case "hang":
		select {}
	}
}

// Skip reports whether step is to be left out.
func Skip(step string) bool { return action(step) == "skip" }

func action(step string) string {
	for _, one := range strings.Split(os.Getenv(Env), ",") {
		if name, what, ok := strings.Cut(one, "="); ok && name == step {
			return what
		}
	}
	return ""
}
