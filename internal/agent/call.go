package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Call asks the agent of that key and waits for its answer. file, if not nil, is
// what it may write to; after an error it may go on writing to it for a while.
// An error is ErrNone, or says that ctx has ended: then, too, nobody knows what
// the agent has done, and the caller does the work itself or gives up.
func Call(ctx context.Context, folder string, r Request, file *os.File) (Reply, error) {
	none := func(err error) (Reply, error) { return Reply{}, fmt.Errorf("%w: %w", ErrNone, err) }
	if err := private(folder, false); err != nil {
		return none(err)
	}
	conn, err := dial(socketPath(folder, r.Key))
	if err != nil {
		return none(err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()

	packet, err := encode(r)
	if err != nil {
		return none(err)
	}
	var beside []byte
	if file != nil {
		beside = syscall.UnixRights(int(file.Fd()))
	}
	if err := conn.SetDeadline(time.Now().Add(firstAnswer)); err != nil {
		return none(err)
	}
	if _, _, err := conn.WriteMsgUnix(packet, beside, nil); err != nil {
		return none(err)
	}
	for {
		var reply Reply
		if err := receive(conn, &reply); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return Reply{}, cause
			}
			return none(err)
		}
		if !reply.Working {
			return reply, nil
		}
		if err := conn.SetReadDeadline(time.Now().Add(noAnswer)); err != nil {
			return none(err)
		}
	}
}

// dial connects to a socket that this very user listens on.
func dial(socket string) (*net.UnixConn, error) {
	conn, err := net.DialTimeout("unix", socket, firstAnswer)
	if err != nil {
		return nil, err
	}
	unix := conn.(*net.UnixConn)
	if err := sameUser(unix); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return unix, nil
}

// Running lists the keys of the agents of this user whose sockets lie in the
// folder, which may be absent. One that has died may be among them.
func Running(folder string) ([]string, error) {
	if err := private(folder, false); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil
		}
		return nil, err
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, e := range entries {
		if key, ok := strings.CutSuffix(filepath.Base(e.Name()), ".sock"); ok {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys, nil
}
