//go:build fault && linux

package transport_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// A build that leaves out a step of Put is found out by the test named.
func TestLocalBrokenBuilds(t *testing.T) {
	for step, test := range map[string]string{
		"put.noreplace":    "^TestLocal$/^Exclusive$",
		"put.fsync":        "^TestLocalPutSystemCalls$",
		"put.folder-fsync": "^TestLocalPutSystemCalls$",
	} {
		t.Run(step, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run="+test)
			cmd.Env = append(os.Environ(), "WALSHIP_FAULT="+step+"=skip")
			output, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(output), "--- FAIL: "+strings.Trim(strings.Split(test, "/")[0], "^$")) {
				t.Fatalf("without %s %s passes: %v\n%s", step, test, err, output)
			}
		})
	}
}
