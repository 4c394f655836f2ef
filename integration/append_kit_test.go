package integration_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"

	"walship/internal/testpg"
	"walship/internal/testsshd"
)

// What the tests of an append-only archive host share: the host itself, set up
// with the lines that walship setup ssh has printed, and an attacker who has the
// primary's key and speaks the protocol by hand.

// appendHost is an account in a ChrootDirectory, which only root can make.
type appendHost struct {
	*testsshd.Server
	archive string // the folder on the host that the account calls /wal
}

// newAppendHost makes the folders, and starts a server with the lines of a Match
// block in which the folders' printed names are replaced, and with lines of
// authorized keys.
func newAppendHost(t testing.TB, match, keys []string) *appendHost {
	t.Helper()
	owner, err := testpg.ServerUser()
	must(t, err)
	u, err := user.Lookup(owner.Name)
	must(t, err)
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	top, err := os.MkdirTemp("/run", "walship-append-") // all above it is root's alone
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(top) })
	must(t, os.Chmod(top, 0o755))
	must(t, os.Mkdir(filepath.Join(top, "wal"), 0o750))
	must(t, os.Chown(filepath.Join(top, "wal"), uid, gid))
	file := filepath.Join(top, "walship_keys")
	must(t, os.WriteFile(file, []byte(strings.Join(keys, "\n")+"\n"), 0o644))
	replace := strings.NewReplacer("/srv/walship", top, "/etc/ssh/walship_keys", file)
	lines := []string{"Match User " + owner.Name}
	for _, line := range match {
		lines = append(lines, replace.Replace(line))
	}
	srv := testsshd.Start(t, testsshd.Options{User: owner.Name, Match: lines})
	return &appendHost{srv, filepath.Join(top, "wal")}
}

// rawSFTP is a session of an attacker: packets as one likes them.
type rawSFTP struct {
	t    testing.TB
	conn *ssh.Client
	ch   ssh.Channel
	id   uint32
}

// SSH_FXP_ types and flags, from draft-ietf-secsh-filexfer-02.
const (
	rawOpen, rawClose, rawRead, rawWrite      = 3, 4, 5, 6
	rawSetstat, rawFsetstat                   = 9, 10
	rawRemove, rawMkdir, rawRmdir             = 13, 14, 15
	rawRename, rawSymlink, rawExtended        = 18, 20, 200
	rawStatus, rawHandle                      = 101, 102
	flagRead, flagWrite, flagAppend           = 1, 2, 4
	flagCreate, flagTrunc, flagExcl           = 8, 16, 32
	attrBySize, attrByMode, attrByTime   byte = 1, 4, 8
)

func (h *appendHost) session(t testing.TB, key ssh.Signer) *rawSFTP {
	t.Helper()
	conn, err := ssh.Dial("tcp", h.Addr, &ssh.ClientConfig{
		User: h.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.FixedHostKey(h.HostKeys[0]),
		HostKeyAlgorithms: []string{h.HostKeys[0].Type()},
	})
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	ch, requests, err := conn.OpenChannel("session", nil)
	must(t, err)
	go ssh.DiscardRequests(requests)
	ok, err := ch.SendRequest("subsystem", true, ssh.Marshal(struct{ Name string }{"sftp"}))
	if err != nil || !ok {
		t.Fatalf("subsystem: %v, %v\n%s", ok, err, h.Log())
	}
	r := &rawSFTP{t: t, conn: conn, ch: ch}
	r.send(1, binary.BigEndian.AppendUint32(nil, 3))
	r.receive()
	return r
}

func (r *rawSFTP) send(kind byte, body []byte) {
	r.t.Helper()
	b := binary.BigEndian.AppendUint32(nil, uint32(1+len(body)))
	_, err := r.ch.Write(append(append(b, kind), body...))
	must(r.t, err)
}

func (r *rawSFTP) receive() (kind byte, body []byte) {
	r.t.Helper()
	var head [5]byte
	_, err := io.ReadFull(r.ch, head[:])
	must(r.t, err)
	body = make([]byte, binary.BigEndian.Uint32(head[:4])-1)
	_, err = io.ReadFull(r.ch, body)
	must(r.t, err)
	return head[4], body
}

// ask sends a request and returns the answer's type and what follows its id.
func (r *rawSFTP) ask(kind byte, parts ...any) (byte, []byte) {
	r.t.Helper()
	r.id++
	b := binary.BigEndian.AppendUint32(nil, r.id)
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(p))), p...)
		case int:
			b = binary.BigEndian.AppendUint32(b, uint32(p))
		case uint64:
			b = binary.BigEndian.AppendUint64(b, p)
		case []byte:
			b = append(b, p...)
		}
	}
	r.send(kind, b)
	answer, body := r.receive()
	return answer, body[4:]
}

// open returns a handle, "" if it was refused.
func (r *rawSFTP) open(name string, flags int, attrs []byte) string {
	r.t.Helper()
	if attrs == nil {
		attrs = make([]byte, 4)
	}
	kind, body := r.ask(rawOpen, name, flags, attrs)
	if kind != rawHandle {
		return ""
	}
	return string(body[4:])
}

// write overwrites the beginning of an open file.
func (r *rawSFTP) write(handle string) {
	if handle != "" {
		r.ask(rawWrite, handle, uint64(0), "overwritten by an attacker")
		r.ask(rawClose, handle)
	}
}

// attrs are attributes to be set: a length, a mode or both times, with these values.
func attrs(kind byte, values ...int) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(kind))
	for _, v := range values {
		if kind == attrBySize {
			b = binary.BigEndian.AppendUint64(b, uint64(v))
			continue
		}
		b = binary.BigEndian.AppendUint32(b, uint32(v))
	}
	return b
}

// attack is a way to change or remove a file that is there. old is its path as the
// attacker sees it, mine that of a file which the attacker has made.
type attack struct {
	what string
	do   func(r *rawSFTP, old, mine string)
}

// attacks are the ways that the protocol and OpenSSH's extensions offer. Each of
// them works with a key that may do everything, see TestAppendOnly.
func attacks() []attack {
	const posix, lset, link, copyData = "posix-rename@openssh.com", "lsetstat@openssh.com", "hardlink@openssh.com", "copy-data"
	openAs := func(flags int) func(r *rawSFTP, old, mine string) {
		return func(r *rawSFTP, old, _ string) { r.write(r.open(old, flags, nil)) }
	}
	set := func(a []byte) func(r *rawSFTP, old, mine string) {
		return func(r *rawSFTP, old, _ string) { r.ask(rawSetstat, old, a) }
	}
	fset := func(a []byte) func(r *rawSFTP, old, mine string) {
		return func(r *rawSFTP, old, _ string) {
			if h := r.open(old, flagRead, nil); h != "" {
				r.ask(rawFsetstat, h, a)
				r.ask(rawClose, h)
			}
		}
	}
	return []attack{
		{"write", openAs(flagWrite)},
		{"read and write", openAs(flagRead | flagWrite)},
		{"append", openAs(flagWrite | flagAppend)},
		{"create over it", openAs(flagWrite | flagCreate)},
		{"truncate", openAs(flagWrite | flagTrunc)},
		{"truncate for reading", openAs(flagRead | flagTrunc)},
		{"create and truncate", openAs(flagWrite | flagCreate | flagTrunc)},
		{"setstat, length", set(attrs(attrBySize, 0))},
		{"setstat, mode", set(attrs(attrByMode, 0o666))},
		{"setstat, no access", set(attrs(attrByMode, 0))},
		{"setstat, times", set(attrs(attrByTime, 1, 1))},
		{"fsetstat, mode", fset(attrs(attrByMode, 0o666))},
		{"fsetstat, times", fset(attrs(attrByTime, 1, 1))},
		{"lsetstat, times", func(r *rawSFTP, old, _ string) { r.ask(rawExtended, lset, old, attrs(attrByTime, 1, 1)) }},
		{"truncate through an open handle", func(r *rawSFTP, old, _ string) {
			if h := r.open(old, flagRead|flagWrite, nil); h != "" {
				r.ask(rawFsetstat, h, attrs(attrBySize, 1))
				r.ask(rawClose, h)
			}
		}},
		{"remove", func(r *rawSFTP, old, _ string) { r.ask(rawRemove, old) }},
		{"remove by another way to it", func(r *rawSFTP, old, _ string) {
			r.ask(rawRemove, path.Dir(old)+"/./../"+path.Base(path.Dir(old))+"//"+path.Base(old))
		}},
		{"rename away", func(r *rawSFTP, old, mine string) { r.ask(rawRename, old, mine+".away") }},
		{"posix-rename away", func(r *rawSFTP, old, mine string) { r.ask(rawExtended, posix, old, mine+".away") }},
		{"posix-rename over it", func(r *rawSFTP, old, mine string) { r.ask(rawExtended, posix, mine, old) }},
		{"rename its folder", func(r *rawSFTP, old, mine string) { r.ask(rawRename, path.Dir(old), mine+".folder") }},
		{"posix-rename its folder", func(r *rawSFTP, old, mine string) { r.ask(rawExtended, posix, path.Dir(old), mine+".folder") }},
		{"close its folder", func(r *rawSFTP, old, mine string) { r.ask(rawSetstat, path.Dir(old), attrs(attrByMode, 0)) }},
		{"write through a link", func(r *rawSFTP, old, mine string) {
			r.ask(rawExtended, link, old, mine+".link")
			r.write(r.open(mine+".link", flagWrite, nil))
		}},
		{"setstat through a link", func(r *rawSFTP, old, mine string) {
			r.ask(rawExtended, link, old, mine+".link")
			r.ask(rawSetstat, mine+".link", attrs(attrByMode, 0o666))
		}},
		{"write through a symbolic link", func(r *rawSFTP, old, mine string) {
			r.ask(rawSymlink, old, mine+".symlink")
			r.write(r.open(mine+".symlink", flagWrite|flagTrunc, nil))
		}},
		{"copy-data into it", func(r *rawSFTP, old, mine string) {
			from, to := r.open(mine, flagRead, nil), r.open(old, flagWrite, nil)
			if from != "" && to != "" {
				r.ask(rawExtended, copyData, from, uint64(0), uint64(0), to, uint64(0))
				r.ask(rawWrite, to, uint64(0), "x") // where copy-data is not known
			}
			for _, h := range []string{from, to} {
				if h != "" {
					r.ask(rawClose, h)
				}
			}
		}},
	}
}

// portrait is what can be seen of a file and may not change: nothing of its
// content, mode, owner or time, nor of the folder's mode.
func portrait(file string) string {
	info, err := os.Lstat(file)
	if err != nil {
		return err.Error()
	}
	folder, err := os.Lstat(filepath.Dir(file))
	if err != nil {
		return err.Error()
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	stat := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%v %d %v %d:%d, %x, in %v", info.Mode(), info.Size(), info.ModTime(), stat.Uid, stat.Gid, sha256.Sum256(content), folder.Mode())
}

// portraits are those of every file below root.
func portraits(t testing.TB, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	must(t, filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			all[name] = portrait(name)
		}
		return err
	}))
	return all
}
