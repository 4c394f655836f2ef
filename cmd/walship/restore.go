package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"walship/internal/config"
	"walship/restore"
	"walship/transport"
	"walship/walname"
)

func (p *program) restoreCommand() *cli.Command {
	return &cli.Command{
		Name:  "restore",
		Usage: "bring a base backup back, ready to recover to a point in time",
		Description: "walship restore -D NEWDIR --time \"2026-11-22 14:05\"\n\n" +
			"Chooses the newest backup from which the target can be reached, checks that it\n" +
			"and the WAL up to the target are whole, unpacks it into NEWDIR, which must be\n" +
			"empty or absent, and configures the recovery. Starting the server then brings\n" +
			"it to the target. Run it as the user that PostgreSQL will run as. After a\n" +
			"failure the same command can be given again.\n\n" +
			"--start runs the server to the target. walship restore --check is a drill that\n" +
			"throws the copy away again; for cron.\n\n" +
			"Exits 0 when all is restored, checked and on stable storage, 18 when the archive\n" +
			"cannot reach the target, 14 when the backup is damaged, 13 when the folder is\n" +
			"not empty or lacks space; the other codes are those of walship backup.",
		Flags:  append(append(append(common(), restoreFlags()...), startFlags()...), checkFlags()...),
		Action: p.restore,
	}
}

func restoreFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "D", Usage: "the new data directory: empty, or not there yet"},
		&cli.StringFlag{Name: "time", Usage: `recover to this time: "2026-11-22 14:05:30+01", "yesterday 14:05", "5 minutes ago"; without a zone it is the local one`},
		&cli.StringFlag{Name: "lsn", Usage: "recover to this position in the WAL, such as 16/B374D848 (PostgreSQL 10)"},
		&cli.StringFlag{Name: "name", Usage: "recover to this restore point (PostgreSQL 9.1)"},
		&cli.StringFlag{Name: "xid", Usage: "recover to this transaction"},
		&cli.BoolFlag{Name: "latest", Usage: "recover to the end of the archived WAL: the default"},
		&cli.BoolFlag{Name: "immediate", Usage: "stop as soon as the copy is consistent, at the end of the backup (PostgreSQL 9.4)"},
		&cli.BoolFlag{Name: "exclusive", Usage: "stop just before the time, position or transaction"},
		&cli.StringFlag{Name: "timeline", Usage: "the timeline to recover along: its number, latest, or current for the backup's own; default latest, where that is not ambiguous"},
		&cli.StringFlag{Name: "target-action", Usage: "what the server does at the target: pause, promote or shutdown; default pause where it can be looked at then, otherwise promote"},
		&cli.StringFlag{Name: "backup", Usage: "the backup to restore, by its name; default the newest that suits"},
		&cli.StringFlag{Name: "cluster", Usage: "system identifier of the cluster, if the archive holds several"},
		&cli.StringSliceFlag{Name: "tablespace-mapping", Usage: "OLD=NEW: put the tablespace that was at OLD at NEW; may be given several times; a = in a path is written \\="},
		&cli.BoolFlag{Name: "take-over", Usage: "leave archive_mode on: the copy takes the place of the cluster; without it the copy archives nothing"},
		&cli.BoolFlag{Name: "standby", Usage: "make a standby, which goes on recovering"},
		&cli.BoolFlag{Name: "missing-wal-ok", Usage: "go on although WAL is missing before the target"},
		&cli.BoolFlag{Name: "dry-run", Usage: "check everything, say what would be done, and write nothing"},
		&cli.BoolFlag{Name: "json", Usage: "print the result as JSON"},
		&cli.BoolFlag{Name: "q", Aliases: []string{"quiet"}, Usage: "show no progress"},
	}
}

func (p *program) restore(x *cli.Context) error {
	if _, err := arguments(x); err != nil {
		return err
	}
	lean()
	p.quiet = x.Bool("q")
	if x.Bool("check") {
		return p.checkRestore(x)
	}
	if err := withoutCheck(x); err != nil {
		return err
	}
	o, err := restoreOptions(x, time.Now())
	if err != nil {
		return err
	}
	conf, err := p.loadOne(x)
	if err != nil {
		return err
	}
	if o.RestoreCommand, err = restoreCommandLine(conf); err != nil {
		return err
	}
	// A restore takes as long as it takes; only silence ends it.
	if err := conf.RequireArchive(); err != nil {
		return err
	}
	s := &reopening{open: func() (store, error) { return open(x.Context, conf, silencePatient) }}
	defer s.Close()
	r := &restore.Restorer{Store: s, Keys: keys(conf), Warn: p.warn}
	plan, err := r.Plan(x.Context, o)
	if err != nil {
		return err
	}
	if len(plan.Missing) > 0 {
		plan.RestoreCommand += " --no-gap-guard"
	}
	if !x.Bool("json") {
		p.printPlan(plan)
	}
	for _, note := range plan.Notes {
		p.warn(note)
	}
	if x.Bool("dry-run") {
		return p.printRestored(x, plan, nil, 0, nil)
	}
	start, err := startable(x, plan)
	if err != nil {
		return err
	}
	p.warnOwner(plan, conf)
	began := time.Now()
	bar := p.progress("restore", plan.Manifest.Size)
	defer bar.stop()
	r.Progress = bar.add
	res, err := r.Run(x.Context, plan)
	bar.stop()
	if err != nil {
		err = incomplete(err, plan)
		if hint := transport.Hint(err); x.Context.Err() != nil && hint != "" {
			p.warn(hint) // what ends with a signal says only that
		}
		return err
	}
	return start.andPrint(p, x, plan, res, time.Since(began))
}

// incomplete says what an unfinished restore has left.
func incomplete(err error, plan *restore.Plan) error {
	if _, there := os.Stat(filepath.Join(plan.Dir, "walship-restore.json")); there != nil {
		return err
	}
	hint := fmt.Sprintf("%s is incomplete and marked so; the same command clears it and begins anew", plan.Dir)
	if old := transport.Hint(err); old != "" {
		hint = old + "; " + hint
	}
	return transport.WithHint(err, hint)
}

// restoreOptions reads the flags; relative times are taken from now.
func restoreOptions(x *cli.Context, now time.Time) (o restore.Options, err error) {
	if o.Dir = x.String("D"); o.Dir == "" && !x.Bool("check") {
		return o, usage("-D NEWDIR is missing: the new data directory")
	}
	if o.Dir, err = absolute(o.Dir); err != nil {
		return o, err
	}
	if o.Target, err = restoreTarget(x, now); err != nil {
		return o, err
	}
	switch text := x.String("timeline"); text {
	case "":
		if x.IsSet("timeline") {
			return o, usage("--timeline is empty")
		}
	case "latest":
		o.Timeline.Latest = true
	case "current":
		o.Timeline.Current = true
	default:
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil || n == 0 {
			return o, usage("--timeline %q is no timeline (a number from 1, latest, current)", text)
		}
		o.Timeline.Number = walname.Timeline(n)
	}
	if text := x.String("cluster"); x.IsSet("cluster") {
		if o.Cluster, err = strconv.ParseUint(text, 10, 64); err != nil || o.Cluster == 0 {
			return o, usage("--cluster %q is no system identifier", text)
		}
	}
	if o.Backup = x.String("backup"); x.IsSet("backup") && o.Backup == "" {
		return o, usage("--backup is empty")
	}
	for _, text := range x.StringSlice("tablespace-mapping") {
		m, err := parseMapping(text)
		if err != nil {
			return o, err
		}
		if slices.ContainsFunc(o.Mapping, func(other restore.Mapping) bool { return other.Old == m.Old }) {
			return o, usage("--tablespace-mapping is given twice for %s", m.Old)
		}
		o.Mapping = append(o.Mapping, m)
	}
	o.Action = restore.Action(x.String("target-action"))
	o.TakeOver, o.Standby, o.MissingWALOK = x.Bool("take-over"), x.Bool("standby"), x.Bool("missing-wal-ok")
	return o, nil
}

// restoreTarget reads the one flag that says where recovery ends.
func restoreTarget(x *cli.Context, now time.Time) (t restore.Target, err error) {
	var given []string
	for _, name := range []string{"time", "lsn", "name", "xid", "latest", "immediate"} {
		if x.IsSet(name) {
			given = append(given, "--"+name)
		}
	}
	if len(given) > 1 {
		return t, usage("%s exclude each other", strings.Join(given, " and "))
	}
	t.Exclusive = x.Bool("exclusive")
	switch {
	case x.IsSet("time"):
		t.Kind = restore.AtTime
		if t.Time, err = restore.ParseTime(x.String("time"), now, time.Local); err != nil {
			return t, usage("--time: %v", err)
		}
		if t.Time.After(now.Add(time.Minute)) {
			return t, usage("--time: %s is in the future", t)
		}
	case x.IsSet("lsn"):
		t.Kind = restore.AtLSN
		if t.LSN, err = walname.ParseLSN(x.String("lsn")); err != nil {
			return t, usage("--lsn: %v", err)
		}
	case x.IsSet("name"):
		t.Kind, t.Name = restore.AtName, x.String("name")
	case x.IsSet("xid"):
		t.Kind = restore.AtXID
		if t.XID, err = strconv.ParseUint(x.String("xid"), 10, 64); err != nil {
			return t, usage("--xid %q is no transaction's number", x.String("xid"))
		}
	case x.Bool("immediate"):
		t.Kind = restore.Immediate
	}
	return t, nil
}

func absolute(path string) (string, error) {
	full, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("%w: %w", restore.ErrLocal, err)
	}
	return full, nil
}

// parseMapping reads OLD=NEW, where \= is a = in a path, as pg_basebackup does.
func parseMapping(text string) (m restore.Mapping, err error) {
	var parts []string
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text) && text[i+1] == '=':
			i++
			b.WriteByte('=')
		case text[i] == '=':
			parts = append(parts, b.String())
			b.Reset()
		default:
			b.WriteByte(text[i])
		}
	}
	parts = append(parts, b.String())
	if len(parts) != 2 || !filepath.IsAbs(parts[0]) || !filepath.IsAbs(parts[1]) {
		return m, usage("--tablespace-mapping %q is not of the form OLD=NEW with two absolute paths", text)
	}
	if strings.ContainsAny(parts[1], "\n\r\\") {
		return m, usage("--tablespace-mapping %q: the new path has a backslash or a line end in it", text)
	}
	return restore.Mapping{Old: filepath.Clean(parts[0]), New: filepath.Clean(parts[1])}, nil
}

// restoreCommandLine is the restore_command that does what this call was told:
// with absolute paths, for it runs elsewhere. A URL with a password, which the
// process list would show, is none that the configuration takes.
func restoreCommandLine(conf *config.Config) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("%w: %w", restore.ErrLocal, err)
	}
	words := []string{commandWord(self), "fetch"}
	if conf.File != "" {
		file, err := absolute(conf.File)
		if err != nil {
			return "", err
		}
		words = append(words, "--config", commandWord(file))
	}
	for _, v := range conf.Values() {
		if !strings.HasPrefix(v.Origin, "flag ") && !strings.HasPrefix(v.Origin, "environment ") {
			continue
		}
		value := v.Text
		switch v.Name {
		case "archive":
			value = conf.Archive
		case "ssh_key", "known_hosts", "identity_file":
			if value, err = absolute(value); err != nil {
				return "", err
			}
		case "header_check":
		default:
			continue
		}
		words = append(words, "--"+strings.ReplaceAll(v.Name, "_", "-"), commandWord(value))
	}
	return strings.Join(append(words, "%f", "%p"), " "), nil
}

// commandWord writes a word for sh, and for PostgreSQL, to which % is special.
func commandWord(s string) string {
	s = strings.ReplaceAll(s, "%", "%%")
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@%+,") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// warnOwner says what will keep the server from starting if root restores.
func (p *program) warnOwner(plan *restore.Plan, conf *config.Config) {
	if os.Geteuid() != 0 {
		return
	}
	owner := restore.OwnerOf(plan.Options)
	if owner == nil {
		p.warn(fmt.Sprintf("the files will belong to root, as which PostgreSQL does not run; afterwards: chown -R postgres: %s", commandWord(plan.Dir)))
		return
	}
	for _, file := range []string{conf.File, conf.SSHKey, conf.IdentityFile} {
		info, err := os.Stat(file)
		if err == nil && info.Mode().Perm()&0o044 == 0 && restore.UserOf(info) == 0 {
			p.warn(fmt.Sprintf("%s can be read by root alone: restore_command, which runs as the server's user, will not find it", file))
		}
	}
}
