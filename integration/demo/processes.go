package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// processes are the servers and the calls of walship that work below a folder,
// which nobody but this process has put any there. Without /proc it is the
// servers only.
func processes(folder string) (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*") // the pattern is well formed
	if len(all) == 0 {
		for _, data := range dataFolders(folder) {
			if pid, _ := postmaster(data); pid != 0 {
				pids = append(pids, pid)
			}
		}
	}
	below := func(path string) bool { return path == folder || strings.HasPrefix(path, folder+"/") }
	programs := []string{"postgres", "pg_ctl", "pg_rewind", "pg_basebackup", "walship"}
	for _, proc := range all {
		program, err := os.Readlink(filepath.Join(proc, "exe"))
		if err != nil || !slices.Contains(programs, filepath.Base(strings.TrimSuffix(program, " (deleted)"))) {
			continue
		}
		at, _ := os.Readlink(filepath.Join(proc, "cwd")) // "" is below nothing
		words, _ := os.ReadFile(filepath.Join(proc, "cmdline"))
		if below(strings.TrimSuffix(at, " (deleted)")) || slices.ContainsFunc(strings.Split(string(words), "\x00"), below) {
			pid, _ := strconv.Atoi(filepath.Base(proc)) // the pattern says so
			pids = append(pids, pid)
		}
	}
	return pids
}

// sweep ends all that still runs below the story's folder. A server that was
// started by walship or pg_ctl is nobody's child.
func sweep(home string) {
	deadline := time.Now().Add(10 * time.Second)
	for {
		found := processes(home)
		if len(found) == 0 {
			break
		}
		signal := syscall.SIGQUIT // PostgreSQL's immediate shutdown; others die of it
		if time.Now().After(deadline) {
			signal = syscall.SIGKILL
		}
		for _, pid := range found {
			_ = syscall.Kill(pid, signal) // it may have ended
		}
		time.Sleep(50 * time.Millisecond)
	}
	for _, data := range dataFolders(home) {
		forget(data)
	}
}

// dataFolders are the data directories in which a server runs, or was killed.
func dataFolders(home string) (folders []string) {
	var files []string
	for _, pattern := range []string{"postmaster.pid", "*/postmaster.pid", "*/*/postmaster.pid"} {
		found, _ := filepath.Glob(filepath.Join(home, pattern)) // a pattern that is well formed
		files = append(files, found...)
	}
	for _, file := range files {
		folders = append(folders, filepath.Dir(file))
	}
	return folders
}

// postmaster reads the server's process and its System V shared memory from
// postmaster.pid: 0 if there is no server, and 0 for no memory. The process may
// be gone.
func postmaster(data string) (pid, memory int) {
	text, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return 0, 0
	}
	lines := strings.Split(string(text), "\n")
	if pid, err = strconv.Atoi(lines[0]); err != nil || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		pid = 0
	}
	if len(lines) > 6 {
		var key int
		_, _ = fmt.Sscan(lines[6], &key, &memory) // 0 if it is not there
	}
	return pid, memory
}
