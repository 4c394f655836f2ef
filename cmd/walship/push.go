package main

import (
	"context"
	"time"

	"github.com/urfave/cli/v2"

	"walship/archive"
	"walship/internal/config"
	"walship/internal/fault"
	"walship/internal/hugepage"
)

// pushHeap is about what a push needs for the pieces that it compresses, in bytes.
const pushHeap = 16 << 20

func (p *program) pushCommand() *cli.Command {
	return &cli.Command{
		Name:      "push",
		Usage:     "put a WAL file into the archive (for archive_command)",
		ArgsUsage: "PATH NAME",
		Description: "archive_command = 'walship push %p %f'\n\n" +
			"Exits 0 only when this very content is in the archive, on stable storage; in\n" +
			"all of them if the configuration lists several.\n" +
			"Otherwise PostgreSQL keeps the file and asks again; the exit code says why:\n\n" +
			"   2 command line            3 configuration         4 name or content refused\n" +
			"   5 other content archived  6 restored copy         7 archive not usable\n" +
			"   8 unreachable             9 login, host key      10 permission\n" +
			"  11 disk full              12 not durable enough   13 file here unreadable\n" +
			"  14 stored file damaged    15 ended by a signal    16 anything else",
		Flags: append(common(), dataFlag(),
			&cli.BoolFlag{Name: "no-clone-guard", Usage: "take a history file although it looks like that of a restored copy"}),
		Action: func(x *cli.Context) error {
			return p.push(x.Context, pushCall{given(x), x.Args().Slice(), x.String("D"), x.Bool("no-clone-guard")})
		},
	}
}

// pushCall is what stands on the command line of a push.
type pushCall struct {
	given        map[string]string // settings
	args         []string
	data         string
	noCloneGuard bool
}

func (p *program) push(ctx context.Context, call pushCall) error {
	fault.At("push.begin")
	arg, err := exactly(call.args, "push", "PATH", "NAME")
	if err != nil {
		return err
	}
	data, err := dataDir(call.data, arg[0])
	if err != nil {
		return err
	}
	silence := silencePatient
	if data != nil && data.Stopping() {
		silence = silenceStopping
	}
	conf, err := loadGiven(call.given)
	if err != nil {
		return err
	}
	ctx, cancel := p.limited(ctx, conf)
	defer cancel()
	if !call.noCloneGuard {
		if done, err := p.pushViaAgent(ctx, conf, data, silence, arg[0], arg[1]); done {
			return err
		}
	}
	hugepage.Heap(pushHeap)
	pushers, done, err := p.pushersTo(ctx, conf, silence)
	if err != nil {
		return err
	}
	defer done()
	for _, pusher := range pushers {
		pusher.CloneGuard = !call.noCloneGuard
	}
	return pushers.Push(ctx, data, arg[0], arg[1])
}

func dataFlag() cli.Flag {
	return &cli.StringFlag{Name: "D", Aliases: []string{"pgdata"}, Usage: "data directory, instead of the working directory or $PGDATA"}
}

// pushers loads the configuration and opens the archives for writing; done closes
// them.
func (p *program) pushers(x *cli.Context, silence time.Duration) (pushers archive.Pushers, done func(), err error) {
	conf, err := load(x)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := p.limited(x.Context, conf)
	pushers, closed, err := p.pushersTo(ctx, conf, silence)
	if err != nil {
		cancel()
		return nil, nil, err
	}
	x.Context = ctx
	return pushers, func() { cancel(); closed() }, nil
}

// pushersTo opens the configured archives for writing; done closes them.
func (p *program) pushersTo(ctx context.Context, conf *config.Config, silence time.Duration) (pushers archive.Pushers, done func(), err error) {
	to, err := recipients(conf)
	if err != nil {
		return nil, nil, err
	}
	all, done, err := openEach(ctx, conf, silence)
	if err != nil {
		return nil, nil, err
	}
	return pushersOf(all, to, p.warn), done, nil
}
