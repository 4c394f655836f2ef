package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"walship/internal/agent"
	"walship/internal/config"
	"walship/internal/pgdata"
	"walship/restore"
	"walship/transport"
)

// Kinds of requests to the agent.
const (
	kindPush   = "push"
	kindFetch  = "fetch"
	kindStatus = "status"
	kindStop   = "stop"
)

// agentFolder is where the sockets of this user's agents lie.
func agentFolder(c *config.Config) string {
	if c.AgentDir != "" {
		return c.AgentDir
	}
	return agent.Folder()
}

// agentKey stands for the configuration, and for what else decides how the
// archive is reached.
func agentKey(c *config.Config) string {
	var recipients []byte // an agent that knows others must not push for this call
	if c.RecipientsFile != "" {
		recipients, _ = os.ReadFile(c.RecipientsFile) // the push itself says what is wrong with it
	}
	return agent.Key(c.Essence() + home() + "\n" + os.Getenv("SSH_AUTH_SOCK") + "\n" + string(recipients))
}

// home is where this user's own files are: what a server starts has no HOME, what
// systemd starts has one, and both mean the same.
func home() string {
	if dir := os.Getenv("HOME"); dir != "" {
		return dir
	}
	me, err := user.Current()
	if err != nil {
		return ""
	}
	return me.HomeDir
}

// errAgent is an error that the agent has met in doing the work of a call.
type errAgent struct {
	code          int // of classCode
	message, hint string
}

func (e *errAgent) Error() string { return e.message }
func (e *errAgent) Hint() string  { return e.hint }
func (e *errAgent) Is(target error) bool {
	return target == restore.ErrNotThere && e.code == exitNotThere
}

// reply is the answer that stands for the outcome of a call.
func reply(err error, warnings []string) agent.Reply {
	r := agent.Reply{Warnings: warnings}
	switch {
	case err == nil:
		r.Done = true
		return r
	case errors.Is(err, restore.ErrNotThere):
		r.Code = exitNotThere
	default:
		r.Code = classCode(err)
	}
	r.Unreached = errors.Is(err, transport.ErrUnreachable)
	r.Message, r.Hint = limit(err.Error()), limit(transport.Hint(err))
	return r
}

// limit keeps a text short enough for an answer.
func limit(text string) string {
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "")
	}
	return text
}

// final reports whether the agent's answer is the call's own: work that is done,
// and on a standby, which asks every few seconds, that a file is not there. All else
// the call tries itself: the agent's login may be dead, or so old that it does not
// see what a new one sees.
func final(r agent.Request, answer agent.Reply) bool {
	return answer.Code == exitOK && answer.Done ||
		answer.Code == exitNotThere && !answer.Unreached && r.Mode == modeName(pgdata.Standby)
}

// viaAgent hands the work of a call to the agent. ok means that answer is the
// outcome; otherwise the call does the work itself. An agent that is not there
// is started, for the calls that follow. file is where to deliver to.
func (p *program) viaAgent(ctx context.Context, c *config.Config, r agent.Request, file *os.File) (answer agent.Reply, ok bool) {
	if !agentServes(c) {
		return answer, false
	}
	r.Key, r.Timeout = agentKey(c), c.Timeout
	if c.Silence > 0 {
		r.Silence = c.Silence
	}
	var err error
	if r.Kind == kindPush { // the agent opens it; what a fetch is asked for goes by the path as it is
		if r.Path, err = filepath.Abs(r.Path); err != nil {
			return answer, false
		}
	}
	if r.Place, err = agent.Place(r.Data); err != nil {
		return answer, false
	}
	folder := agentFolder(c)
	answer, err = agent.Call(ctx, folder, r, file)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		_ = startAgent(c, folder) // why it does not start, its log says
		return answer, false
	case err != nil || !final(r, answer):
		return answer, false
	}
	for _, text := range answer.Warnings {
		p.warn(text)
	}
	return answer, true
}

// agentServes reports whether calls with this configuration go to an agent.
func agentServes(c *config.Config) bool {
	return c.Agent == "auto" && agent.Possible && !folderAmongSeveral(c)
}

// folderAmongSeveral reports whether one of several archives is a local folder.
// What hangs there, as on a dead NFS server, cannot be given up: it ends with the
// call's process, but in an agent it would pile up, as others answer the calls.
func folderAmongSeveral(c *config.Config) bool {
	return len(c.Archives) > 1 && slices.ContainsFunc(c.Archives, func(url string) bool {
		u, err := transport.ParseURL(url)
		return err == nil && u.Scheme == "file"
	})
}

var errFolderAmongSeveral = transport.WithHint(fmt.Errorf("%w: one of several archives is a local folder, and an agent serves none such", config.ErrConfig),
	"push and fetch make their own connections; with the folder as the only archive, or without it, there can be an agent")

// outcome is the error that the answer stands for.
func outcome(answer agent.Reply) error {
	if answer.Code == exitOK {
		return nil
	}
	return &errAgent{answer.Code, answer.Message, answer.Hint}
}

// startAgent starts an agent with the settings of this call.
func startAgent(c *config.Config, folder string) error {
	settings, err := c.Environ()
	if err != nil {
		return err
	}
	return agent.Start(folder, []string{"agent", "--on-demand"}, append(os.Environ(), settings...))
}

// pushViaAgent is a push by the agent. done is false if the call has to do it.
func (p *program) pushViaAgent(ctx context.Context, c *config.Config, data *pgdata.Dir, silence time.Duration, path, name string) (done bool, err error) {
	if data == nil {
		return false, nil
	}
	r := agent.Request{Kind: kindPush, Name: name, Path: path, Data: data.Path, Silence: silence}
	answer, done := p.viaAgent(ctx, c, r, nil)
	return done, outcome(answer)
}

// fetchViaAgent is a fetch by the agent. done is false if the call has to do it.
func (p *program) fetchViaAgent(ctx context.Context, c *config.Config, q restore.Request) (done bool, err error) {
	if q.Data == nil || q.Mode == pgdata.ByHand || !agentServes(c) {
		return false, nil
	}
	d := restore.NewDelivery(q.Path)
	defer d.Discard()
	file, err := d.File()
	if err != nil {
		return false, nil
	}
	r := agent.Request{Kind: kindFetch, Name: q.Name, Path: q.Path, Data: q.Data.Path, Mode: modeName(q.Mode), Silence: silenceFor(q.Mode)}
	answer, done := p.viaAgent(ctx, c, r, file)
	if !done || answer.Code != exitOK {
		return done, outcome(answer)
	}
	if info, err := file.Stat(); err != nil || info.Size() != answer.Size || info.Size() == 0 {
		return false, fmt.Errorf("the agent has delivered something else: %w", errors.Join(err, errOdd))
	}
	return true, d.Place()
}

// errOdd is an agent that does not do what it says.
var errOdd = errors.New("other size")
