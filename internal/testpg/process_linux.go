package testpg

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// attributes ask the kernel to shut the child down when this process dies
// without having done so. SIGQUIT is PostgreSQL's immediate shutdown, which
// takes the server's children along; other programs die of it.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT}
}

// relative is a process below another one. Its start time tells it from a later
// process of the same id.
type relative struct {
	pid, parent, session int
	started              string // clock ticks since boot
}

// descendants lists the children of pid and all theirs, with every process of
// their sessions: a server's child leads a session of its own, and what it has
// started stays in that session also when its parent is gone.
func descendants(pid int) []relative {
	all := processes()
	related := map[int]bool{pid: true}
	sessions := map[int]bool{pid: true}
	var found []relative
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			if !related[p.pid] && (related[p.parent] || sessions[p.session]) {
				related[p.pid], grown = true, true
				if p.session == p.pid {
					sessions[p.session] = true
				}
				found = append(found, p)
			}
		}
	}
	return found
}

func processes() []relative {
	paths, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is well formed
	var all []relative
	for _, path := range paths {
		if p, err := readStat(path); err == nil {
			all = append(all, p)
		}
	}
	return all
}

// readStat parses a file of proc(5), "PID (NAME) STATE PPID PGRP SESSION …".
func readStat(path string) (relative, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return relative{}, err
	}
	after := bytes.LastIndexByte(data, ')') // a name may hold anything
	fields := bytes.Fields(data[after+1:])
	if len(fields) < 20 {
		return relative{}, fmt.Errorf("%s has %d fields", path, len(fields))
	}
	if fields[0][0] == 'Z' {
		return relative{}, fmt.Errorf("%s is a zombie", path)
	}
	pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
	if err != nil {
		return relative{}, err
	}
	parent, err := strconv.Atoi(string(fields[1]))
	if err != nil {
		return relative{}, err
	}
	session, err := strconv.Atoi(string(fields[3]))
	return relative{pid, parent, session, string(fields[19])}, err
}

// alive reports whether the process still runs.
func (p relative) alive() bool {
	now, err := readStat(fmt.Sprintf("/proc/%d/stat", p.pid))
	return err == nil && now.started == p.started
}

// kill ends the process unless it is gone.
func (p relative) kill() {
	if p.alive() {
		_ = syscall.Kill(p.pid, syscall.SIGKILL) // it may have ended since
	}
}
