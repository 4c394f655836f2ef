package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"slices"
	"syscall"

	"walship/internal/agent"
)

// checkAgent looks at the agent that push and fetch hand their work to. Without
// it everything works, only slower: so it is never worse than a WARNING.
func (c *checkup) checkAgent(ctx context.Context) {
	if c.conf.Agent != "auto" {
		return
	}
	if folderAmongSeveral(c.conf) {
		c.say("agent", healthy, "none is used, as one of several archives is a local folder")
		return
	}
	folder, key := agentFolder(c.conf), agentKey(c.conf)
	if !agent.Possible {
		c.say("agent", warning, "there is none on this system: each call makes a connection of its own")
		return
	}
	keys, err := agent.Running(folder)
	if err != nil {
		c.say("agent", warning, "none is used: %v", err)
		c.hint("the folder has to be a real one, this user's own, with mode 0700; agent_dir names another")
		return
	}
	answer, err := agent.Call(ctx, folder, agent.Request{Key: key, Kind: kindStatus}, nil)
	var s agentStatus
	switch {
	case err == nil && json.Unmarshal(answer.Status, &s) == nil && s.Ahead == nil:
		c.say("agent", healthy, "agent %d has pushed %d files and fetched %d", s.PID, s.Pushed, s.Fetched)
	case err == nil && s.PID != 0:
		c.say("agent", healthy, "agent %d has pushed %d files, %d of them ahead, and fetched %d, %d of them ahead", s.PID, s.Pushed, s.Ahead.Used, s.Fetched, s.Prefetch.Used)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		if len(slices.DeleteFunc(keys, func(k string) bool { return k == key })) > 0 {
			c.say("agent", healthy, "none of this configuration is running, though others are: the next push or fetch starts one")
			return
		}
		c.say("agent", healthy, "none is running: the next push or fetch starts one")
	default:
		c.say("agent", warning, "it does not answer, so each call works without it, a second later: %v", err)
		c.hint("see %s/agent.log, and which process it is: walship agent status, ps; it may be killed at any time", folder)
	}
}
