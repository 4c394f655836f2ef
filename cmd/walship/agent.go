package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/urfave/cli/v2"

	"walship/archive"
	"walship/internal/agent"
	"walship/internal/config"
	"walship/internal/hugepage"
	"walship/restore"
)

// agentIdle is how long an agent that a call has started stays without a call.
const agentIdle = 10 * time.Minute

// agentMemory is what the agent should need at most besides what it keeps for
// recovering servers, in bytes: from there on the garbage collector works harder.
const agentMemory = 96 << 20

// agentHeap is about what the segments need that are under way at once, in bytes.
const agentHeap = 64 << 20

func (p *program) agentCommand() *cli.Command {
	return &cli.Command{
		Name:  "agent",
		Usage: "keep the connection open and work ahead, for push and fetch",
		Description: "With agent = \"auto\" push and fetch hand their work to an agent of the same\n" +
			"user and configuration, and start one if there is none; that one ends after\n" +
			"10 minutes without a call. This command is an agent in the foreground, for\n" +
			"systemd: it takes the place of one that is running, logs to standard error, and\n" +
			"ends with SIGTERM, when what is in hand is done.\n\n" +
			"   walship agent status    what this user's agents do\n" +
			"   walship agent stop      end the one of this configuration",
		Flags: append(common(),
			&cli.StringFlag{Name: "idle", Usage: "end after this time without a call, such as 10m"},
			&cli.BoolFlag{Name: "on-demand", Usage: "started by a call: end if there is another, or after a time without calls"}),
		Action: func(x *cli.Context) error {
			if _, err := arguments(x); err != nil {
				return err
			}
			conf, err := load(x)
			if err != nil {
				return err
			}
			if err := conf.RequireArchive(); err != nil {
				return err
			}
			if folderAmongSeveral(conf) {
				return errFolderAmongSeveral
			}
			var idle time.Duration
			if x.Bool("on-demand") {
				idle = agentIdle
			}
			if x.IsSet("idle") {
				if idle, err = config.ParseDuration(x.String("idle")); err != nil {
					return usage("--idle %q: %v", x.String("idle"), err)
				}
			}
			return p.serveAgent(x.Context, conf, idle, x.Bool("on-demand"))
		},
	}
}

// serveAgent is the agent.
func (p *program) serveAgent(ctx context.Context, conf *config.Config, idle time.Duration, onDemand bool) error {
	if !agent.Possible {
		return errors.New("the agent needs Linux; without it each call makes its own connection")
	}
	log := &agentLog{v: p.voice}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	folder, key := agentFolder(conf), agentKey(conf)
	var w *worker
	listen := func() (*agent.Server, error) {
		return agent.Listen(folder, key, func(ctx context.Context, r agent.Request, file *os.File) agent.Reply { return w.handle(ctx, r, file) })
	}
	server, err := listen()
	for try := 0; errors.Is(err, agent.ErrTaken) && !onDemand && try < 100; try++ {
		if try%20 == 0 {
			_, _ = agent.Call(ctx, folder, agent.Request{Key: key, Kind: kindStop}, nil)
		}
		select {
		case <-time.After(agentDrain / 100):
		case <-ctx.Done():
			return nil
		}
		server, err = listen()
	}
	if errors.Is(err, agent.ErrTaken) && onDemand {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errLocalFile, err)
	}
	debug.SetMemoryLimit(conf.Prefetch + agentMemory)
	hugepage.Heap(agentHeap)
	if w, err = newWorker(ctx, conf, key, log, idle, stop); err != nil {
		return err
	}
	log.say("ready, for %s", maskedURLs(conf))
	err = server.Serve(ctx, idle, agentDrain)
	w.close()
	log.say("ended")
	return err
}

func (p *program) agentStatusCommand() *cli.Command {
	return &cli.Command{
		Name:  "agent status",
		Usage: "show this user's agents and what they have done",
		Flags: append(common(), &cli.BoolFlag{Name: "json", Usage: "print JSON"}),
		Action: func(x *cli.Context) error {
			conf, agents, err := runningAgents(x)
			if err != nil {
				return err
			}
			if x.Bool("json") {
				e := json.NewEncoder(plainJSON{p.out})
				e.SetIndent("", "  ")
				return e.Encode(agents)
			}
			if len(agents) == 0 {
				p.print("no agent is running")
			}
			for _, a := range agents {
				p.printAgent(a, a.Key == agentKey(conf))
			}
			return nil
		},
	}
}

// runningAgents reads the configuration of a command without arguments, and asks
// all agents of this user what they do. One that does not answer is not among them.
func runningAgents(x *cli.Context) (*config.Config, []agentStatus, error) {
	if _, err := arguments(x); err != nil {
		return nil, nil, err
	}
	conf, err := load(x)
	if err != nil {
		return nil, nil, err
	}
	folder := agentFolder(conf)
	keys, err := agent.Running(folder)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errLocalFile, err)
	}
	all := []agentStatus{}
	for _, key := range keys {
		answer, err := agent.Call(x.Context, folder, agent.Request{Key: key, Kind: kindStatus}, nil)
		var s agentStatus
		if err == nil && json.Unmarshal(answer.Status, &s) == nil {
			all = append(all, s)
		}
	}
	return conf, all, nil
}

func (p *program) printAgent(s agentStatus, ours bool) {
	whose := "of another configuration or build"
	if ours {
		whose = "of this configuration"
	}
	p.print("agent %d, %s, version %s, since %s", s.PID, whose, s.Version, s.Since.Local().Format("2006-01-02 15:04:05"))
	for _, a := range s.Archives {
		p.print("  archive   %s%s", oneLine(a.URL), map[bool]string{true: "", false: " (not connected)"}[a.Connected == nil || *a.Connected])
	}
	p.print("  calls     %d pushed, %d fetched, %d failed", s.Pushed, s.Fetched, s.Failed)
	if s.Ahead != nil && s.Prefetch != nil {
		p.printWorkAhead(*s.Ahead, *s.Prefetch)
	}
	p.print("  memory    %d MB", s.Memory>>20)
	if s.Idle != "" {
		p.print("  ends      after %s without a call", s.Idle)
	}
}

func (p *program) printWorkAhead(ahead archive.AheadStats, kept restore.PrefetchStats) {
	p.print("  ahead     %d segments published before they were asked for, %d of them asked for since", ahead.Published, ahead.Used)
	p.print("  prefetch  %d segments fetched before they were asked for, %d of them asked for since, %d MB kept", kept.Fetched, kept.Used, kept.Held>>20)
}

func (p *program) agentStopCommand() *cli.Command {
	return &cli.Command{
		Name:  "agent stop",
		Usage: "end the agent of this configuration, when what is in hand is done",
		Flags: append(common(), &cli.BoolFlag{Name: "all", Usage: "end all agents of this user"}),
		Action: func(x *cli.Context) error {
			conf, running, err := runningAgents(x)
			if err != nil {
				return err
			}
			stopped := 0
			for _, a := range running {
				if !x.Bool("all") && a.Key != agentKey(conf) {
					continue
				}
				if _, err := agent.Call(x.Context, agentFolder(conf), agent.Request{Key: a.Key, Kind: kindStop}, nil); err != nil {
					return fmt.Errorf("agent %d: %w", a.PID, err)
				}
				p.print("agent %d ends", a.PID)
				stopped++
			}
			if stopped == 0 {
				p.print("no agent of this configuration is running")
			}
			return nil
		},
	}
}
