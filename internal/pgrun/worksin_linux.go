package pgrun

import (
	"fmt"
	"os"
)

// WorksIn reports whether the process runs with the folder as working directory,
// as a server does in its data directory.
func WorksIn(pid int, data string) bool {
	at, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	if err != nil {
		return false
	}
	there, err := os.Stat(data)
	if err != nil {
		return false
	}
	here, err := os.Stat(at)
	return err == nil && os.SameFile(there, here)
}
