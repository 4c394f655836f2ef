package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"walship/internal/pgcheck"
	"walship/internal/pgrun"
	"walship/internal/pgserver"
	"walship/restore"
	"walship/transport"
	"walship/walname"
)

func startFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "start", Usage: "then start the server, wait until recovery has come to the target, and leave it running"},
		&cli.StringFlag{Name: "port", Usage: "with --start: listen on this port instead of the configured one, for a copy beside its origin"},
		binDirFlag(),
	}
}

func binDirFlag() cli.Flag {
	return &cli.StringFlag{Name: "bin-dir", Usage: "folder of PostgreSQL's programs; otherwise PATH and the usual folders are searched for those of the backup's version"}
}

// starting is what --start needs.
type starting struct {
	wanted  bool
	install pgrun.Install
	args    []string // of the server
}

// startable finds what --start will need, before anything is written: the
// programs of the version, and somebody to run them as.
func startable(x *cli.Context, plan *restore.Plan) (s starting, err error) {
	if s.wanted = x.Bool("start"); !s.wanted {
		return s, nil
	}
	if x.IsSet("port") {
		s.args = []string{"-p", x.String("port")}
	}
	if os.Geteuid() == 0 && restore.OwnerOf(plan.Options) == nil {
		return s, transport.WithHint(fmt.Errorf("%w: the files in %s would belong to root, as whom PostgreSQL does not run", pgrun.ErrOwner, plan.Dir),
			"run it as the user of the server, or make the folder first and give it to that user")
	}
	if s.install, err = pgrun.Find(x.Context, plan.Version, x.String("bin-dir")); err != nil {
		return s, transport.WithHint(err, "install that version, or say where it is: --bin-dir FOLDER")
	}
	return s, nil
}

// started is how a server that was started stands, for --json.
type started struct {
	Standing string  `json:"standing"` // open, paused, shut down, standby, failed
	Process  int     `json:"process"`  // its id; 0 if it does not run
	Timeline uint32  `json:"timeline"` // the new one, of an open server
	Stop     string  `json:"stop"`     // why recovery stopped, in the server's own words
	Seconds  float64 `json:"seconds"`  // from its start until it stood there
	Log      string  `json:"log"`
}

// andPrint starts the server, if that is wanted, and prints the result.
func (s starting) andPrint(p *program, x *cli.Context, plan *restore.Plan, res *restore.Result, took time.Duration) error {
	if !s.wanted {
		return p.printRestored(x, plan, res, took, nil)
	}
	asJSON := x.Bool("json")
	if !asJSON {
		if err := p.printRestored(x, plan, res, took, nil); err != nil {
			return err
		}
	}
	server, out, err := p.startRestored(x.Context, s, plan)
	if asJSON {
		run := &started{Standing: "failed", Stop: out.Report.Stop, Seconds: seconds(out.Took), Log: startLog(plan)}
		if err == nil {
			run.Standing = map[pgrun.Standing]string{pgrun.Opened: "open", pgrun.Paused: "paused", pgrun.Shut: "shut down", pgrun.Following: "standby"}[out.Standing]
			run.Timeline = uint32(out.Report.Timeline)
			if out.Standing != pgrun.Shut {
				run.Process = server.Pid
			}
		}
		return errors.Join(err, p.printRestored(x, plan, res, took, run))
	}
	if err != nil {
		return err
	}
	p.print("recovery  in %s: %s", out.Took.Round(100*time.Millisecond), standing(server, out))
	if out.Report.Stop != "" {
		p.print("          %s", out.Report.Stop)
	}
	if out.Report.Last != "" {
		p.print("          last transaction of %s", out.Report.Last)
	}
	p.print("log       %s", server.Log)
	if out.Standing == pgrun.Shut {
		p.print("start     %s", startCommand(s.install, plan.Dir))
	}
	return nil
}

func startLog(plan *restore.Plan) string { return filepath.Join(plan.Dir, "log", "walship-start.log") }

// startRestored starts the server of a restore that is whole, with the settings
// that it has, and waits until its recovery has come to stand. It leaves the
// server running, unless recovery failed or was broken off.
func (p *program) startRestored(ctx context.Context, how starting, plan *restore.Plan) (*pgrun.Server, pgrun.Outcome, error) {
	install := how.install
	owner, err := pgrun.OwnerOf(plan.Dir)
	if err != nil {
		return nil, pgrun.Outcome{}, transport.WithHint(err, "give the folder and all that is in it to the user of the server (chown -R postgres), then start it as that user")
	}
	log := startLog(plan)
	server, err := pgrun.Start(pgrun.Options{Install: install, Data: plan.Dir, Owner: owner, Log: log, Args: how.args})
	if err != nil {
		return nil, pgrun.Outcome{}, fmt.Errorf("%w: %w", restore.ErrLocal, err)
	}
	bar, shown := p.replayProgress(plan)
	out, err := server.Recover(ctx, pgrun.Recovery{
		Targeted: plan.Target.Kind != restore.Latest,
		Standby:  plan.Standby,
		Progress: bar,
		Ask:      func(ctx context.Context) (pgrun.Standing, bool) { return askRecovery(ctx, server, owner) },
	})
	shown()
	if err == nil {
		return server, out, nil
	}
	ran := !server.HasEnded()
	if stopped := server.Stop(context.Background(), time.Minute); stopped != nil {
		return server, out, errors.Join(err, stopped)
	}
	switch {
	case signalOf(ctx) != nil:
		p.say("restore: the server has been stopped; %s goes on where it was", startCommand(install, plan.Dir))
	case errors.Is(err, pgrun.ErrUnreached):
		if ran {
			p.warn("the server had opened without having found its target; it has been stopped, so that nobody works with it")
		}
	case transport.Hint(err) == "":
		err = transport.WithHint(err, fmt.Sprintf("the copy is whole; once that is mended, %s; the server's log is %s", startCommand(install, plan.Dir), log))
	}
	return server, out, err
}

// startCommand is how a person starts the server.
func startCommand(install pgrun.Install, data string) string {
	return fmt.Sprintf("%s/pg_ctl start -D %s", shellWord(install.Bin), shellWord(data))
}

// replayProgress shows how much WAL has been replayed, in whole segments: up to
// the target where its position is known, otherwise to the last archived segment.
func (p *program) replayProgress(plan *restore.Plan) (segment func(string), stop func()) {
	g := plan.Geometry
	first := g.Number(plan.First)
	end := uint64(0)
	if (plan.Last != walname.Segment{}) {
		end = g.Number(plan.Last) + 1
	}
	if plan.Target.Kind == restore.AtLSN {
		end = g.Number(g.At(plan.Timeline, plan.Target.LSN)) + 1
	}
	var total int64
	if end > first {
		total = int64(end-first) * g.SegmentSize
	}
	bar := p.progress("recovery", total)
	done := first
	return func(name string) {
		n, err := walname.Parse(name)
		if err != nil || n.Kind != walname.KindSegment || g.Check(n.Segment) != nil {
			return
		}
		if at := g.Number(n.Segment); at > done {
			bar.add(int64(at-done) * g.SegmentSize)
			done = at
		}
	}, bar.stop
}

// askRecovery asks a server that is left to its own settings how its recovery
// stands, over its own socket; false if it does not let us in.
func askRecovery(ctx context.Context, s *pgrun.Server, owner pgrun.Owner) (pgrun.Standing, bool) {
	text, err := os.ReadFile(filepath.Join(s.Data, "postmaster.pid"))
	lines := strings.Split(string(text), "\n")
	if err != nil || len(lines) < 5 || lines[4] == "" {
		return 0, false
	}
	var port int
	if _, err := fmt.Sscan(lines[3], &port); err != nil {
		return 0, false
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for _, user := range []string{owner.Name, "postgres"} {
		c, err := pgserver.Connect(ctx, pgserver.Params{ConnString: socketConn(lines[4], port, user)})
		if err != nil {
			continue
		}
		paused := "pg_is_wal_replay_paused()"
		if c.Version() < 100000 {
			paused = "pg_is_xlog_replay_paused()"
		}
		if c.Version() < 90100 {
			paused = "false"
		}
		row, err := c.Row(ctx, "SELECT pg_is_in_recovery(), CASE WHEN pg_is_in_recovery() THEN "+paused+" END")
		_ = c.Close() // it has said all it had to say
		if err != nil || len(row) != 2 {
			continue
		}
		if row[0] == "f" {
			return pgrun.Opened, true
		}
		return pgrun.Paused, row[1] == "t"
	}
	return 0, false
}

// standing says where a recovery has come to stand.
func standing(s *pgrun.Server, out pgrun.Outcome) string {
	switch out.Standing {
	case pgrun.Paused:
		return fmt.Sprintf("the server runs (process %d), paused at its target", s.Pid)
	case pgrun.Shut:
		return "the server has shut down at its target"
	case pgrun.Following:
		return fmt.Sprintf("the server runs (process %d), a consistent standby", s.Pid)
	}
	on := ""
	if out.Report.Timeline != 0 {
		on = fmt.Sprintf(" on timeline %d", out.Report.Timeline)
	}
	return fmt.Sprintf("the server runs (process %d) and is open%s", s.Pid, on)
}

// socketConn is a connection string for a socket.
func socketConn(folder string, port int, user string) string {
	return pgcheck.ConnString(folder, port, user, "postgres")
}
