package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"walship/internal/config"
	"walship/internal/drill"
	"walship/internal/fault"
	"walship/internal/pgcheck"
	"walship/internal/pgdata"
	"walship/internal/pgrun"
	"walship/internal/pgserver"
	"walship/restore"
	"walship/transport"
)

func checkFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "check", Usage: "a drill: restore into a throwaway folder, start the server, wait for the target, check all data, measure, and throw it away"},
		&cli.StringFlag{Name: "sample", Usage: "with --check: check only so many percent of the tables, chosen at random, such as 10%"},
		&cli.StringFlag{Name: "seed", Usage: "with --sample: choose the same tables again as the drill that named this number"},
		&cli.StringFlag{Name: "dir", Usage: "with --check: where the throwaway folder goes; default TMPDIR"},
		&cli.StringFlag{Name: "jobs", Usage: "with --check: connections that check at a time; default the number of processors, at most 16"},
		&cli.BoolFlag{Name: "no-record", Usage: "with --check: leave no record of the outcome in the archive"},
		&cli.StringFlag{Name: "username", Usage: "with --check: a superuser of the cluster; default the first there is"},
	}
}

// onlyWithCheck and notWithCheck are flags of restore.
var (
	onlyWithCheck = []string{"sample", "seed", "dir", "jobs", "no-record", "username"}
	notWithCheck  = []string{"D", "start", "port", "take-over", "standby", "target-action", "tablespace-mapping", "dry-run"}
)

// checkOptions are what the command line says of a drill.
type checkOptions struct {
	restore  restore.Options
	share    float64
	seed     uint64
	dir      string
	jobs     int
	username string
	binDir   string
	json     bool
	noRecord bool
}

func checkOptionsOf(x *cli.Context, now time.Time) (o checkOptions, err error) {
	for _, name := range notWithCheck {
		if x.IsSet(name) {
			return o, usage("%s and --check exclude each other: the copy of a drill is thrown away", flagText(name))
		}
	}
	o = checkOptions{share: 1, dir: x.String("dir"), jobs: min(runtime.NumCPU(), 16), username: x.String("username"), binDir: x.String("bin-dir"), json: x.Bool("json"), noRecord: x.Bool("no-record")}
	if text := x.String("sample"); x.IsSet("sample") {
		percent, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
		if err != nil || !(percent > 0 && percent <= 100) {
			return o, usage("--sample %q is no share of the tables (a number above 0 and up to 100, as in 10%%)", text)
		}
		o.share = percent / 100
	}
	o.seed = rand.Uint64() >> 11 // JSON's numbers hold 53 bits
	if text := x.String("seed"); x.IsSet("seed") {
		if !x.IsSet("sample") {
			return o, usage("--seed is for --sample")
		}
		if o.seed, err = strconv.ParseUint(text, 10, 53); err != nil {
			return o, usage("--seed %q is no number that a drill has named", text)
		}
	}
	if text := x.String("jobs"); x.IsSet("jobs") {
		if o.jobs, err = strconv.Atoi(text); err != nil || o.jobs < 1 || o.jobs > 100 {
			return o, usage("--jobs %q is no number from 1 to 100", text)
		}
	}
	if x.IsSet("dir") && o.dir == "" {
		return o, usage("--dir is empty")
	}
	if o.dir == "" {
		o.dir = os.TempDir()
	}
	if o.dir, err = absolute(o.dir); err != nil {
		return o, err
	}
	o.restore, err = restoreOptions(x, now)
	o.restore.Action = restore.Promote
	return o, err
}

// withoutCheck refuses what means nothing without --check, or without --start.
func withoutCheck(x *cli.Context) error {
	if text := x.String("port"); x.IsSet("port") {
		if n, err := strconv.ParseUint(text, 10, 16); err != nil || n == 0 {
			return usage("--port %q is no port", text)
		}
	}
	for _, name := range []string{"port", "bin-dir"} {
		if x.IsSet(name) && !x.Bool("start") {
			return usage("%s is for --start", flagText(name))
		}
	}
	for _, name := range onlyWithCheck {
		if x.IsSet(name) {
			return usage("%s is for --check", flagText(name))
		}
	}
	return nil
}

func flagText(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// checkRestore is walship restore --check. A drill that did not pass is an
// error, whatever it has printed.
func (p *program) checkRestore(x *cli.Context) error {
	began := time.Now()
	o, err := checkOptionsOf(x, began)
	if err != nil {
		return err
	}
	d := &drilling{program: p, checkOptions: o, began: began}
	d.result.Began = began.UTC().Truncate(time.Second)
	conf, err := load(x)
	if err == nil {
		err = conf.RequireArchive()
	}
	if err == nil {
		err = d.run(x.Context, conf)
	}
	d.result.Seconds.Total = seconds(time.Since(began))
	d.record(x.Context, conf, err)
	if d.json {
		return errors.Join(err, d.printJSON(x.Context, err))
	}
	d.print(err)
	return err
}

// drilling is one drill.
type drilling struct {
	*program
	checkOptions
	began  time.Time
	result drillResult

	owner   pgrun.Owner
	install pgrun.Install
	place   *drill.Place
	plan    *restore.Plan
	server  *pgrun.Server
}

// run makes the place, and takes it away again whatever happens.
func (d *drilling) run(ctx context.Context, conf *config.Config) (err error) {
	if d.owner, err = drillOwner(d.dir); err != nil {
		return err
	}
	cleared, err := drill.Clear(d.dir, d.owner)
	for _, path := range cleared {
		d.say("restore: cleared away %s, which a drill that was killed had left", path)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errPlace, err)
	}
	if d.place, err = drill.NewPlace(d.dir, d.owner); err != nil {
		return transport.WithHint(fmt.Errorf("%w: throwaway folder: %w", errPlace, err), "--dir FOLDER puts it elsewhere")
	}
	fault.At("drill.place")
	defer func() {
		if d.server != nil {
			err = errors.Join(err, d.server.Stop(context.Background(), 0))
		}
		if removed := d.place.Remove(); removed != nil {
			err = errors.Join(err, fmt.Errorf("%w: the throwaway folder is left: %w", errPlace, removed))
		}
	}()
	if err := d.admitted(conf); err != nil {
		return err
	}
	if err := d.restoreCopy(ctx, conf); err != nil {
		return err
	}
	if err := d.recover(ctx); err != nil {
		return err
	}
	return d.check(ctx)
}

// admitted finds out before the work what the server's user is kept from, if that
// is not this one: the place, this program, and its configuration.
func (d *drilling) admitted(conf *config.Config) error {
	if d.owner.UID == os.Geteuid() {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("%w: %w", errPlace, err)
	}
	words := []string{self, "version"}
	if conf.File != "" {
		words = []string{self, "config", "--config", conf.File}
	}
	for _, attempt := range [][]string{{"/bin/sh", "-c", `cd -- "$1"`, "sh", d.place.Data()}, words} {
		if out, err := d.owner.Command(attempt[0], attempt[1:]...).CombinedOutput(); err != nil {
			what, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
			return transport.WithHint(fmt.Errorf("%w: the server's user %s: %w: %s", errPlace, d.owner.Name, err, what),
				"the drill's server runs as "+d.owner.Name+", who has to be able to enter "+d.dir+", to run "+self+" and to read its configuration and its key")
		}
	}
	return nil
}

// drillOwner is as whom the server runs: this user, and for root the owner of
// the folder that the drill takes place in, or the user postgres.
func drillOwner(dir string) (pgrun.Owner, error) {
	if os.Geteuid() != 0 {
		return pgrun.Self()
	}
	o, err := pgrun.OwnerOf(dir)
	if errors.Is(err, pgrun.ErrOwner) {
		if o, err = pgrun.OwnerNamed("postgres"); err != nil {
			err = transport.WithHint(err, "run the drill as the user that PostgreSQL runs as, or give a folder of that user's: --dir FOLDER")
		}
	}
	return o, err
}

// headroom is what recovery may need besides the backup: WAL, and what the
// database has grown by since.
func headroom(plan *restore.Plan) int64 { return plan.Manifest.Size/20 + 8*plan.Geometry.SegmentSize }

// restoreCopy restores into the place.
func (d *drilling) restoreCopy(ctx context.Context, conf *config.Config) (err error) {
	o := d.checkOptions.restore
	o.Dir, o.MapInto = d.place.Data(), d.place.Tablespaces()
	o.Owner = &restore.Owner{UID: d.owner.UID, GID: d.owner.GID}
	if o.RestoreCommand, err = restoreCommandLine(conf); err != nil {
		return err
	}
	s := &reopening{open: func() (store, error) { return open(ctx, conf, silencePatient) }}
	defer s.Close()
	r := &restore.Restorer{Store: s, Keys: keys(conf), Warn: d.warning}
	began := time.Now()
	plan, err := r.Plan(ctx, o)
	if err != nil {
		return err
	}
	d.plan = plan
	if len(plan.Missing) > 0 {
		plan.RestoreCommand += " --no-gap-guard"
	}
	for _, note := range plan.Notes {
		d.warning(note)
	}
	d.result.planned(plan)
	// What would come to nothing in the end is found before the work.
	if d.install, err = pgrun.Find(ctx, plan.Version, d.binDir); err != nil {
		return transport.WithHint(err, "install that version, or say where it is: --bin-dir FOLDER")
	}
	if free, ok := drill.Free(d.dir); ok && free < plan.Manifest.Size+headroom(plan) {
		return transport.WithHint(fmt.Errorf("%w: %s has %s free, the drill needs %s", errPlace, d.dir, bytesText(free), bytesText(plan.Manifest.Size+headroom(plan))),
			"--dir FOLDER puts the throwaway folder elsewhere")
	}
	bar := d.progress("restore", plan.Manifest.Size)
	r.Progress = bar.add
	_, err = r.Run(ctx, plan)
	bar.stop()
	d.result.Seconds.Restore = seconds(time.Since(began))
	fault.At("drill.restored")
	return err
}

func (d *drilling) warning(text string) {
	d.warn(text)
	d.result.Warnings = append(d.result.Warnings, text)
}

// recover starts the server in the place and waits until it has come to the
// target and is open.
func (d *drilling) recover(ctx context.Context) error {
	settings, err := d.settings()
	if err != nil {
		return err
	}
	began := time.Now()
	c := drill.Conf{Place: d.place, Owner: d.owner, Version: d.plan.Version, Jobs: d.jobs, Preload: true}
	for {
		if err := c.Write(settings); err != nil {
			return fmt.Errorf("%w: %w", errPlace, err)
		}
		out, err := d.start(ctx)
		libraries := drill.Libraries(settings)
		if err != nil && c.Preload && libraries != "" && errors.Is(err, pgrun.ErrServerEnded) && out.Report.Redo == 0 && ctx.Err() == nil {
			// Perhaps only because a library is not installed on this machine.
			d.warning(fmt.Sprintf("the server does not start with shared_preload_libraries = %s; trying without: %v", drill.Quote(libraries), err))
			c.Preload = false
			continue
		}
		d.result.Seconds.Recovery = seconds(time.Since(began))
		d.result.Seconds.Consistency = seconds(out.ToConsistency)
		d.result.recovered(out, d.began)
		if err != nil {
			return err
		}
		d.result.Seconds.TimeToRecovery = seconds(time.Since(d.began))
		fault.At("drill.recovered")
		return nil
	}
}

// settings are those of the copy, of which the drill takes over some.
func (d *drilling) settings() ([]pgdata.Setting, error) {
	all, err := pgdata.ReadConf(filepath.Join(d.place.Data(), "postgresql.conf"))
	if err != nil {
		d.warning(fmt.Sprintf("the copy's configuration cannot be read, and a server would not start with it: %v", err))
	}
	if d.plan.Version < 90400 {
		return all, nil
	}
	auto, err := pgdata.ReadConf(filepath.Join(d.place.Data(), "postgresql.auto.conf"))
	if err != nil && d.plan.Version >= 120000 {
		return nil, fmt.Errorf("%w: %w", errPlace, err)
	}
	return append(all, auto...), nil
}

func (d *drilling) start(ctx context.Context) (pgrun.Outcome, error) {
	server, err := pgrun.Start(pgrun.Options{Install: d.install, Data: d.place.Data(), Owner: d.owner, Log: d.place.Log(), Tied: true})
	if err != nil {
		return pgrun.Outcome{}, fmt.Errorf("%w: %w", errPlace, err)
	}
	d.server = server
	bar, shown := d.replayProgress(d.plan)
	defer shown()
	return server.Recover(ctx, pgrun.Recovery{Targeted: d.plan.Target.Kind != restore.Latest, Progress: bar})
}

// check reads the data of the open server.
func (d *drilling) check(ctx context.Context) error {
	began := time.Now()
	user, err := d.superuser(ctx)
	if err != nil {
		return err
	}
	d.replayed(ctx, user)
	bar := d.progress("check", 0)
	defer bar.stop()
	found := 0
	r, err := pgcheck.Check(ctx, pgcheck.Options{
		Install: d.install, Owner: d.owner, Host: d.place.Sockets, Port: drill.Port, User: user,
		Jobs: d.jobs, Share: d.share, Seed: d.seed, Progress: bar.add,
		Found: func(problem string) {
			if found++; found <= mostProblems {
				d.result.Check.FirstProblems = append(d.result.Check.FirstProblems, oneLine(problem))
			}
		},
	})
	bar.stop()
	for _, problem := range d.result.Check.FirstProblems {
		d.say("restore: damage: %s", problem)
	}
	d.result.Seconds.Check = seconds(time.Since(began))
	d.result.checked(r, d.checkOptions)
	if err != nil {
		return err
	}
	fault.At("drill.checked")
	if r.Problems > 0 {
		return transport.WithHint(fmt.Errorf("%w: %d problems in the restored database", errDrill, r.Problems),
			"look for the same damage in the running cluster (pg_amcheck), and keep the older backups until it is known where it comes from")
	}
	return nil
}

// errPlace is a drill that this machine is not fit for.
var errPlace = errors.New("the drill cannot take place here")

// errDrill is a restored database that its check has found damaged.
var errDrill = errors.New("the copy is damaged")

// mostProblems is how many problems are told one by one.
const mostProblems = 20

// superuser finds a role that may read everything. If it is none of those that
// are likely, the server is stopped and asked in a way that needs no role.
func (d *drilling) superuser(ctx context.Context) (string, error) {
	likely := []string{d.username, "postgres", d.owner.Name}
	user, err := d.place.Superuser(ctx, likely...)
	if err != nil || user != "" {
		if err == nil && d.username != "" && user != d.username {
			d.warning(fmt.Sprintf("%s is no superuser of the cluster; %s is", d.username, user))
		}
		return user, err
	}
	if err := d.server.Stop(ctx, time.Minute); err != nil {
		return "", err
	}
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if user, err = d.place.FirstSuperuser(ctx, d.install, d.owner); err != nil {
		return "", fmt.Errorf("%w: %w", pgcheck.ErrCheck, err)
	}
	if out, err := d.start(ctx); err != nil || out.Standing != pgrun.Opened {
		return "", err
	}
	if again, err := d.place.Superuser(ctx, user); err != nil || again == "" {
		return "", errors.Join(fmt.Errorf("%w: %s does not get in", pgcheck.ErrCheck, user), err)
	}
	return user, nil
}

// replayed asks how far replay has come; the log tells it less exactly.
func (d *drilling) replayed(ctx context.Context, user string) {
	c, err := pgserver.Connect(ctx, pgserver.Params{ConnString: pgcheck.ConnString(d.place.Sockets, drill.Port, user, "template1")})
	if err != nil {
		return
	}
	defer c.Close()
	ask := "SELECT pg_last_wal_replay_lsn()"
	if c.Version() < 100000 {
		ask = "SELECT pg_last_xlog_replay_location()"
	}
	if lsn, err := c.Value(ctx, ask); err == nil && lsn != "" {
		d.result.RestoredTo.LSN = lsn
	}
}
