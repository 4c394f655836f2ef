// Package agent lets short-lived calls hand their work to a process that stays,
// over a socket that belongs to one user. It knows how the two find each other,
// make sure of each other, talk, and notice that the other one is gone; what the
// work is, it leaves to whoever serves. A call that gets no answer does its work
// itself: trouble with the agent costs time and nothing else.
//
// Agent and call are of one user, one configuration and one build of walship: a
// Key stands for the three, and names the socket.
//
// Each message is a length of four bytes, big-endian, and that much JSON. A call
// sends one Request, with the file to deliver to as a descriptor beside it. The
// agent answers with lines that say that it is at work, at least one a second,
// and in the end with one Reply.
package agent

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// ErrNone says that no agent can be asked: there is none, or it is another
// user's, or it has not answered in time. The call does the work itself.
var ErrNone = errors.New("no agent")

// Request is what a call asks for.
type Request struct {
	Key  string `json:"key"`  // of the caller
	Kind string `json:"kind"` // what is asked for, as the server of it knows

	Name    string        `json:"name,omitempty"`
	Path    string        `json:"path,omitempty"`  // absolute
	Data    string        `json:"data,omitempty"`  // data directory, absolute
	Place   string        `json:"place,omitempty"` // of the data directory: see Place
	Mode    string        `json:"mode,omitempty"`
	Silence time.Duration `json:"silence,omitempty"` // longest that the archive may say nothing
	Timeout time.Duration `json:"timeout,omitempty"` // of the whole
}

// Reply is the answer.
type Reply struct {
	Done      bool            `json:"done,omitempty"`    // said, never assumed: with it alone Code 0 is a success
	Working   bool            `json:"working,omitempty"` // not yet: only a sign of life
	Code      int             `json:"code"`              // 0: done; else as the server of it knows
	Message   string          `json:"message,omitempty"`
	Unreached bool            `json:"unreached,omitempty"` // the error is also that an archive could not be asked, whatever Code says
	Hint      string          `json:"hint,omitempty"`
	Warnings  []string        `json:"warnings,omitempty"`
	Size      int64           `json:"size,omitempty"` // of what was delivered, bytes
	Status    json.RawMessage `json:"status,omitempty"`
}

// How the two watch each other.
const (
	signOfLife  = 500 * time.Millisecond // between two
	firstAnswer = time.Second            // until the first of them: a frozen agent costs this much
	noAnswer    = 4 * time.Second        // a dying agent costs this much
	maxMessage  = 64 << 10
)

// Key stands for a user, a configuration and a build. configuration is anything
// that differs when the configuration does.
func Key(configuration string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "1 %d %s\n%s", os.Geteuid(), build(), configuration))
	return hex.EncodeToString(sum[:8])
}

// build tells one build of walship from another: by the file that runs.
func build() string {
	self, err := os.Executable()
	if err != nil {
		return ""
	}
	info, err := os.Stat(self)
	if err != nil {
		return self
	}
	return fmt.Sprintf("%s %d %d", self, info.Size(), info.ModTime().UnixNano())
}

// Place tells one folder from all others on this machine. Under the same path
// another process may see another one: in a container, or after a mount.
func Place(folder string) (string, error) {
	info, err := os.Stat(folder)
	if err != nil {
		return "", err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", fmt.Errorf("%s: the system does not tell where it lies", folder)
	}
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino), nil
}

// Folder is where the sockets of this user lie if nothing else is configured.
func Folder() string {
	return filepath.Join(os.TempDir(), "walship-"+strconv.Itoa(os.Geteuid()))
}

// private checks that the folder is this user's alone: no link, nobody else's,
// open to nobody else. With create it is made if it is absent.
func private(folder string, create bool) error {
	info, err := os.Lstat(folder)
	if errors.Is(err, os.ErrNotExist) && create {
		if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		info, err = os.Lstat(folder)
	}
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir():
		return fmt.Errorf("%s is not a folder", folder)
	case !ok || int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to another user", folder)
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s is open to other users (mode %04o)", folder, info.Mode().Perm())
	}
	return nil
}

func socketPath(folder, key string) string { return filepath.Join(folder, key+".sock") }

// send writes one message.
func send(w io.Writer, message any) error {
	packet, err := encode(message)
	if err != nil {
		return err
	}
	_, err = w.Write(packet)
	return err
}

func encode(message any) ([]byte, error) {
	text, err := json.Marshal(message)
	if err != nil {
		return nil, err
	}
	if len(text) > maxMessage {
		return nil, fmt.Errorf("a message of %d bytes", len(text))
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...), nil
}

// receive reads one message.
func receive(r io.Reader, message any) error {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > maxMessage {
		return fmt.Errorf("a message of %d bytes", n)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return err
	}
	return json.Unmarshal(text, message)
}
