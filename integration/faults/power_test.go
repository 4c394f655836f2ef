//go:build linux

package faults_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A power cut of the archive host is played on a model of its file system, from
// the system calls that its sftp-servers made. Until it has been synced, each
// write and each entry of a folder may have got to the disk or not, whatever
// came before or after it; fsync of a file covers its content and not its name,
// fsync of a folder its own entries and nothing below them.

// recordArgs are strace's: every call with its begin and its duration, to a
// nanosecond. sftp-server hides its memory, and with it the names, unless that
// call is answered without being carried out.
var recordArgs = []string{
	"-f", "-qq", "-s", "0", "--timestamps=unix,ns", "--syscall-times=ns",
	"-e", "trace=open,openat,write,pwrite64,fsync,fdatasync,close,link,linkat,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,ftruncate,prctl",
	"-e", "inject=prctl:retval=0",
}

// change is one thing that a system call has done to the file system.
type change struct {
	begin, end time.Duration // since the epoch
	kind       string        // "write", "name", "unname"
	file       string        // the inode, by the path and time at which it was made
	folder     string        // whose entry, of a name
	base       string
	synced     []time.Duration // ends of the syncs that cover it
}

// durable reports whether the change is on the disk at that time for sure.
func (c *change) durable(at time.Duration) bool {
	return slices.ContainsFunc(c.synced, func(end time.Duration) bool { return end <= at })
}

// film is what the sftp-servers of a host have done, in order.
type film struct{ changes []*change }

type recordedSync struct {
	begin, end time.Duration
	file       string // inode; "" for a folder's
	folder     string
}

var (
	recordedLine = regexp.MustCompile(`^(\d+) +(\d+)\.(\d+) (\w+)\((.*)\) += (-?\d+)(.*) <(\d+)\.(\d+)>$`)
	recordedName = regexp.MustCompile(`"([^"]*)"`)
)

// develop reads the traces.
func develop(t testing.TB, folder string) *film {
	t.Helper()
	traces, err := filepath.Glob(filepath.Join(folder, "trace.*"))
	must(t, err)
	type event struct {
		begin, end   time.Duration
		trace, call  string
		args, result string
	}
	var events []event
	for _, path := range traces {
		f, err := os.Open(path)
		must(t, err)
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			m := recordedLine.FindStringSubmatch(lines.Text())
			if m == nil {
				continue // it was cut off by a kill, or exits
			}
			begin := stamp(m[2], m[3])
			events = append(events, event{begin, begin + stamp(m[8], m[9]), path, m[4], m[5], m[6]})
		}
		must(t, lines.Err())
		must(t, f.Close())
	}
	slices.SortFunc(events, func(a, b event) int { return int(a.begin - b.begin) })

	f := &film{}
	type fd struct{ file, folder string }
	open := map[string]fd{}      // by trace and number
	inode := map[string]string{} // by path
	var syncs []recordedSync
	made := 0
	add := func(e event, kind, file, path string) {
		f.changes = append(f.changes, &change{begin: e.begin, end: e.end, kind: kind, file: file, folder: filepath.Dir(path), base: filepath.Base(path)})
	}
	for _, e := range events {
		number, _, _ := strings.Cut(e.args, ",")
		key := e.trace + " " + number
		var names []string
		for _, m := range recordedName.FindAllStringSubmatch(e.args, -1) {
			names = append(names, m[1])
		}
		if strings.HasPrefix(e.result, "-") {
			continue
		}
		switch e.call {
		case "open", "openat":
			if len(names) != 1 {
				continue
			}
			path := names[0]
			target := fd{folder: path}
			if strings.Contains(e.args, "O_CREAT") {
				made++
				inode[path] = fmt.Sprintf("%s#%d", path, made)
				add(e, "name", inode[path], path)
			}
			if file, ok := inode[path]; ok {
				target = fd{file: file}
			}
			open[e.trace+" "+e.result] = target
		case "close":
			delete(open, key)
		case "write", "pwrite64", "ftruncate":
			if target := open[key]; target.file != "" {
				add(e, "write", target.file, "")
			}
		case "fsync", "fdatasync":
			if target, ok := open[key]; ok {
				syncs = append(syncs, recordedSync{e.begin, e.end, target.file, target.folder})
			}
		case "mkdir", "mkdirat":
			add(e, "name", "folder", names[0])
		case "link", "linkat", "rename", "renameat", "renameat2":
			if len(names) != 2 {
				continue
			}
			inode[names[1]] = inode[names[0]]
			add(e, "name", inode[names[0]], names[1])
			if strings.HasPrefix(e.call, "rename") {
				add(e, "unname", "", names[0])
				delete(inode, names[0])
			}
		case "unlink", "unlinkat", "rmdir":
			add(e, "unname", "", names[0])
			delete(inode, names[0])
		}
	}
	for _, c := range f.changes {
		for _, s := range syncs {
			content := c.kind == "write" && s.file == c.file
			entry := c.kind != "write" && s.file == "" && s.folder == c.folder
			if (content || entry) && c.end <= s.begin {
				c.synced = append(c.synced, s.end)
			}
		}
	}
	return f
}

func stamp(seconds, nanos string) time.Duration {
	s, _ := strconv.ParseInt(seconds, 10, 64) // the expression lets only digits through
	n, _ := strconv.ParseInt(nanos, 10, 64)
	return time.Duration(s)*time.Second + time.Duration(n)
}

// disk is what a power cut has left: which names below the archive's wal and
// history folders there are, and whether the content of each is whole.
type disk map[string]bool

// cut is the disk after a power cut at that time. keep says of each change that
// was not synced whether it got to the disk all the same. Names that were there
// before the film began are none of its business.
func (f *film) cut(at time.Duration, keep func() bool) disk {
	there := map[string]string{} // inode by path
	folders := map[string]bool{} // that were made: whether they are there
	torn := map[string]bool{}    // inodes
	for _, c := range f.changes {
		begun, sure := c.begin < at, c.durable(at)
		on := begun && (sure || keep())
		path := filepath.Join(c.folder, c.base)
		switch {
		case c.kind == "write":
			if !on {
				torn[c.file] = true
			}
		case c.file == "folder":
			folders[path] = folders[path] || on
		case !on:
		case c.kind == "name":
			there[path] = c.file
		default:
			delete(there, path)
		}
	}
	left := disk{}
	for path, file := range there {
		lost := false
		for folder := filepath.Dir(path); folder != "/" && folder != "."; folder = filepath.Dir(folder) {
			if on, made := folders[folder]; made && !on {
				lost = true
			}
		}
		if !lost {
			left[path] = !torn[file]
		}
	}
	return left
}

// moments are the times at which a cut is worth looking at: after each change
// and each acknowledgement.
func (f *film) moments(acks []time.Duration) []time.Duration {
	all := slices.Clone(acks)
	for _, c := range f.changes {
		all = append(all, c.end)
	}
	slices.Sort(all)
	return all
}

// checkPowerCuts cuts the power after every change and every acknowledgement, and
// plays each cut with nothing kept of what was not synced, with everything, and with
// random parts of it.
func (w *world) checkPowerCuts(folder string) {
	f := develop(w.t, folder)
	if len(f.changes) == 0 {
		w.broken("power cut", "nothing was recorded")
		return
	}
	rng := rand.New(rand.NewPCG(w.seed, 7))
	var acks []time.Duration
	for _, a := range w.model.acks {
		acks = append(acks, a.at)
	}
	cuts := 0
	for _, at := range f.moments(acks) {
		for try := range 6 {
			keep := func() bool { return rng.IntN(2) == 0 }
			switch try {
			case 0:
				keep = func() bool { return false }
			case 1:
				keep = func() bool { return true }
			}
			left := f.cut(at, keep)
			cuts++
			for path, whole := range left {
				if w.isFinal(path) && !whole {
					w.broken("b", "a power cut leaves %s incomplete", path)
					return
				}
			}
			for _, a := range w.model.acks {
				path := w.stored(a.name)
				if a.at > at || w.model.mayBeGone(a.name) || !f.made(path) {
					continue
				}
				if _, ok := left[path]; !ok {
					w.broken("a", "a power cut %v after the acknowledgement of %s loses it", at-a.at, a.name)
					return
				}
			}
		}
	}
	w.count("power cuts", cuts)
}

// made reports whether the film shows how the path came to be.
func (f *film) made(path string) bool {
	return slices.ContainsFunc(f.changes, func(c *change) bool {
		return c.kind == "name" && filepath.Join(c.folder, c.base) == path
	})
}
