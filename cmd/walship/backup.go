package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/urfave/cli/v2"

	"walship/archive"
	"walship/internal/async"
	"walship/internal/basebackup"
	"walship/internal/config"
	"walship/internal/crypt"
	"walship/internal/pgserver"
	"walship/transport"
	"walship/walname"
)

// defaultWALLimit is how long a backup waits for its WAL if it is not told.
const defaultWALLimit = time.Hour

func (p *program) backupCommand() *cli.Command {
	return &cli.Command{
		Name:  "backup",
		Usage: "put a base backup into the archive, beside its WAL",
		Description: "Takes a base backup of a running server, a primary or a standby, and stores it\n" +
			"below base/ in the cluster's archive. It connects as psql does: PGHOST, PGPORT,\n" +
			"PGUSER, PGPASSFILE and the options below; the role needs REPLICATION.\n" +
			"In the end it waits until the archive holds all WAL that the backup needs. Only\n" +
			"then is there a backup; one that does not come so far is removed again.\n" +
			"The setting timeout does not bound it; silence does, and --wal-timeout.\n\n" +
			"Exits 0 when backup and WAL are in the archive, on stable storage. Otherwise:\n\n" +
			"   2 command line            3 configuration         7 archive not usable\n" +
			"   8 archive unreachable     9 login, host key      10 permission\n" +
			"  11 disk full              12 not durable enough   13 data directory unreadable\n" +
			"  14 damaged page or WAL    15 ended by a signal    16 anything else\n" +
			"  17 the database server is not reachable, refuses, or archives no WAL",
		Flags: append(common(), append(serverFlags(),
			&cli.StringFlag{Name: "method", Usage: "protocol: by the server's replication protocol, the default from 9.1 on; files: by reading the data directory on this machine (protocol, files)"},
			&cli.StringFlag{Name: "D", Aliases: []string{"pgdata"}, Usage: "data directory on this machine, for --method files; default: where the server says that it is"},
			&cli.StringFlag{Name: "label", Usage: "label of the backup; default " + pgserver.DefaultLabel},
			&cli.StringFlag{Name: "checkpoint", Usage: "spread: wait for a checkpoint that spares the server, for some minutes; fast: demand one at once (spread, fast); default spread"},
			&cli.StringFlag{Name: "max-rate", Usage: "the most to read from the server, in kB a second, or with k or M behind it"},
			&cli.StringFlag{Name: "wal-timeout", Usage: "how long to wait in the end for the WAL that the backup needs, at most " + config.FormatDuration(archive.MaxWALLimit) + "; default " + config.FormatDuration(defaultWALLimit)},
			&cli.BoolFlag{Name: "no-archiver-check", Usage: "begin although the server's own archiver is off or has no command: something else brings its WAL"},
			&cli.BoolFlag{Name: "json", Usage: "print the result as JSON"},
			&cli.BoolFlag{Name: "q", Aliases: []string{"quiet"}, Usage: "show no progress"})...),
		Action: func(x *cli.Context) error {
			if _, err := arguments(x); err != nil {
				return err
			}
			o, err := backupOptionsOf(x)
			if err != nil {
				return err
			}
			conf, err := p.loadOne(x)
			if err != nil {
				return err
			}
			if o.recipients, err = recipients(conf); err != nil {
				return err
			}
			// No limit for the whole call: a backup takes as long as it takes.
			s, err := openLasting(x.Context, conf)
			if err != nil {
				return err
			}
			defer s.Close()
			lean()
			b := &backupCall{program: p, options: o, quiet: x.Bool("q")}
			began := time.Now()
			m, err := b.run(x.Context, s)
			if err != nil {
				return err
			}
			return p.printBackup(m, time.Since(began), x.Bool("json"))
		},
	}
}

// lean has a command that works long keep little garbage, so that its memory is that
// of what is under way however long it takes. Buffers are cheap to collect.
func lean() { debug.SetGCPercent(10) }

// backupOptions are what the command line says.
type backupOptions struct {
	pgserver.BackupOptions
	walLimit      time.Duration
	checkArchiver bool
	recipients    *crypt.Recipients
}

func backupOptionsOf(x *cli.Context) (o backupOptions, err error) {
	if o.Params, err = serverParams(x); err != nil {
		return o, err
	}
	o.Method, o.Label = x.String("method"), x.String("label")
	switch o.Method {
	case "", pgserver.Protocol, pgserver.Files:
	default:
		return o, usage("unknown method %q (protocol, files)", o.Method)
	}
	if dir := x.String("D"); dir != "" {
		if o.Method != pgserver.Files {
			return o, usage("-D is for --method files; over the protocol the server reads its own data directory")
		}
		if o.DataDir, err = filepath.Abs(dir); err != nil {
			return o, err
		}
	}
	switch text := x.String("checkpoint"); text {
	case "", "spread":
	case "fast":
		o.Fast = true
	default:
		return o, usage("unknown checkpoint %q (spread, fast)", text)
	}
	if text := x.String("max-rate"); text != "" {
		if o.MaxRate, err = parseRate(text); err != nil {
			return o, usage("--max-rate %s: %v", text, err)
		}
	}
	o.walLimit = defaultWALLimit
	if text := x.String("wal-timeout"); text != "" {
		if o.walLimit, err = config.ParseDuration(text); err != nil {
			return o, usage("--wal-timeout %s: %v", text, err)
		}
		if o.walLimit > archive.MaxWALLimit {
			return o, usage("--wal-timeout %s: more than %s, after which a backup could pass for an abandoned one", text, config.FormatDuration(archive.MaxWALLimit))
		}
	}
	o.checkArchiver = !x.Bool("no-archiver-check")
	return o, nil
}

// backupCall is one call of the command.
type backupCall struct {
	*program
	options  backupOptions
	quiet    bool
	standby  bool
	progress *progress // nil if it is not shown
	waited   time.Duration
	clearing *async.Result[struct{}] // of what earlier backups have left; nil if it has not begun
}

// checkpointWord is after which time a wait for the checkpoint is spoken of.
const checkpointWord = 2 * time.Second

// run takes the backup.
func (b *backupCall) run(ctx context.Context, s store) (m basebackup.Manifest, err error) {
	a := &archive.Backuper{
		Store: s, Walship: version, WALLimit: b.options.walLimit, Recipients: b.options.recipients,
		Waiting: func(w archive.WALWait) { b.waiting(ctx, w) },
		Warn:    b.warn,
		Say:     b.tell,
		Progress: func(n int64) {
			if b.progress != nil {
				b.progress.add(n)
			}
		},
	}
	if err := b.look(ctx, a); err != nil {
		return m, err
	}
	defer b.endProgress()
	defer b.cleared(ctx)
	m, err = a.Run(ctx, func(ctx context.Context) (basebackup.Source, error) {
		o := b.options.BackupOptions
		o.Warn = b.warn
		if !o.Fast {
			slow := time.AfterFunc(checkpointWord, func() {
				b.tell("waiting for the server's checkpoint, which takes some minutes; --checkpoint fast does not wait")
			})
			defer slow.Stop()
		}
		src, err := pgserver.StartBackup(ctx, o)
		if err != nil {
			return nil, err
		}
		info := src.Info()
		b.standby = info.Standby
		b.tell(fmt.Sprintf("cluster %d, PostgreSQL %s, from %s on timeline %d", info.SystemID, info.PostgreSQL, info.StartLSN, info.Timeline))
		if !b.quiet {
			b.progress = b.voice.progress("backup", info.Size)
		}
		return src, nil
	})
	if errors.Is(err, archive.ErrWAL) {
		err = transport.WithHint(err, "there is no backup, as it could not be restored; "+b.whyNoWAL(ctx, ""))
	}
	return m, err
}

// look finds out what would keep the backup from succeeding, before the server
// is put to any trouble, and clears away what earlier ones have left.
func (b *backupCall) look(ctx context.Context, a *archive.Backuper) error {
	server, err := pgserver.Connect(ctx, b.options.Params)
	if err != nil {
		return err
	}
	defer server.Close()
	id, err := systemID(ctx, server)
	if err != nil {
		return err
	}
	if id != 0 {
		if err := a.Check(ctx, id, 0); err != nil {
			return err
		}
	}
	if b.options.checkArchiver {
		if err := checkArchiver(ctx, server); err != nil {
			return err
		}
	}
	files, err := server.ConfigFiles(ctx, b.warn)
	if err != nil {
		return err
	}
	for _, f := range files {
		a.Config = append(a.Config, archive.ConfigFile{Path: f.Path, Mode: uint32(f.Mode.Perm()), Content: f.Content})
	}
	if id != 0 { // beside the backup: there may be many of them to look at
		b.clearing = async.Go(func() (struct{}, error) { return struct{}{}, a.RemoveAbandoned(ctx, id) })
	}
	return context.Cause(ctx)
}

// cleared waits until what earlier backups have left has been cleared away.
func (b *backupCall) cleared(ctx context.Context) {
	if b.clearing == nil {
		return
	}
	if _, err := b.clearing.Wait(); err != nil && ctx.Err() == nil {
		b.warn(fmt.Sprintf("what earlier backups have left unfinished could not be cleared away: %v", err))
	}
}

// tell says what is being done.
func (b *backupCall) tell(text string) {
	if !b.quiet {
		b.say("backup: %s", text)
	}
}

func (b *backupCall) endProgress() {
	if b.progress != nil {
		b.progress.stop()
		b.progress = nil
	}
}

// printBackup writes the result.
func (p *program) printBackup(m basebackup.Manifest, took time.Duration, asJSON bool) error {
	geometry, err := walname.NewGeometry(m.SegmentSize, m.PostgreSQL == "9.0" || m.PostgreSQL == "9.1" || m.PostgreSQL == "9.2")
	if err != nil {
		return err
	}
	first, last := m.ID().Start, geometry.At(m.Timeline, max(m.StartLSN, m.EndLSN-1))
	if asJSON {
		e := json.NewEncoder(plainJSON{p.out})
		e.SetIndent("", "  ")
		return e.Encode(struct {
			Backup     string           `json:"backup"`
			SystemID   uint64           `json:"system_identifier,string"`
			PostgreSQL string           `json:"postgresql"`
			Method     string           `json:"method"`
			Standby    bool             `json:"from_standby"`
			Label      string           `json:"label"`
			Begin      time.Time        `json:"begin"`
			End        time.Time        `json:"end"`
			Seconds    float64          `json:"seconds"`
			Timeline   walname.Timeline `json:"timeline"`
			StartLSN   walname.LSN      `json:"start_lsn"`
			EndLSN     walname.LSN      `json:"end_lsn"`
			FirstWAL   string           `json:"first_segment"`
			LastWAL    string           `json:"last_segment"`
			Files      int64            `json:"files"`
			Size       int64            `json:"size"`
			StoredSize int64            `json:"stored_size"`
		}{m.Backup, m.SystemID, m.PostgreSQL, m.Method, m.Standby, m.Label, m.Begin, m.End, float64(took.Milliseconds()) / 1000,
			m.Timeline, m.StartLSN, m.EndLSN, first.String(), last.String(), m.Files, m.Size, m.StoredSize})
	}
	p.print("%s is stored, with all WAL that it needs", m.Backup)
	p.print("  %s in %d files, stored as %s (%.1f:1), in %s, %s/s",
		bytesText(m.Size), m.Files, bytesText(m.StoredSize), float64(m.Size)/float64(max(m.StoredSize, 1)),
		roundDuration(took), bytesText(int64(float64(m.Size)/max(took.Seconds(), 0.001))))
	p.print("  WAL from %s to %s", first, last)
	return nil
}

// roundDuration is for people.
func roundDuration(d time.Duration) time.Duration {
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}

// parseRate reads a rate as pg_basebackup does, in kB a second.
func parseRate(text string) (int, error) {
	var n int
	var unit, rest string
	if got, _ := fmt.Sscanf(text, "%d%1s%s", &n, &unit, &rest); got < 1 || rest != "" {
		return 0, errors.New("want for example 500, 500k or 20M")
	}
	switch unit {
	case "", "k":
	case "M":
		if n > 1024 {
			return 0, errors.New("more than 1024M")
		}
		n *= 1024
	default:
		return 0, errors.New("want for example 500, 500k or 20M")
	}
	if n < 32 || n > 1024*1024 {
		return 0, errors.New("not between 32k and 1024M")
	}
	return n, nil
}
