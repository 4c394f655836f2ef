package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"
	"walship/internal/fault"
	"walship/internal/pgconf"
	"walship/internal/pgdata"
	"walship/internal/pgserver"
	"walship/transport"
)

func (p *program) setupStandbyCommand() *cli.Command {
	return &cli.Command{
		Name:  "setup standby",
		Usage: "make a server that follows another, from a backup or from the primary",
		Description: "walship setup standby --archive sftp://wal@backup/srv/wal --primary db1 -D DIR\n\n" +
			"Run it on the standby's machine, as the server's user. If DIR is empty or not\n" +
			"there yet, the newest base backup of the archive goes there, or, if there is\n" +
			"none, a copy straight from the primary. A standby that is there already is only\n" +
			"configured. The password is read from the file that setup primary has made.",
		Flags: append(append(common(), setupFlags()...), setupDataFlag("data directory of the standby: empty, not there yet, or a standby already; default PGDATA"),
			&cli.StringFlag{Name: "primary", Usage: "HOST or HOST:PORT of the server to follow"},
			&cli.StringFlag{Name: "role", Usage: "role to log in there as; default " + standbyRole},
			&cli.StringFlag{Name: "passfile", Usage: "password file with that role's password; default pgpass beside walship.toml (before PostgreSQL 10 it has to be ~/.pgpass, to be named for a new standby)"},
			&cli.StringFlag{Name: "slot", Usage: "replication slot on the primary to use (from 9.4 on)"},
			&cli.StringFlag{Name: "standby-name", Usage: "how the primary shall call this server (application_name); default the host's name"},
			&cli.BoolFlag{Name: "archive-cleanup", Usage: "let the standby remove from the archive what its restartpoints and the base backups do not need (archive_cleanup_command); not where another server reads the archive too; --archive-cleanup=false takes it back"},
			&cli.StringFlag{Name: "port", Usage: "the standby's own port, if it is to differ from the primary's"},
			&cli.BoolFlag{Name: "from-primary", Usage: "copy from the primary, although the archive has a backup"},
			&cli.BoolFlag{Name: "rejoin", Usage: "make an old primary follow the one that was promoted in its place"},
			&cli.BoolFlag{Name: "new-copy", Usage: "with --rejoin: move the old data directory away and copy anew, instead of pg_rewind"},
			&cli.StringFlag{Name: "rewind-user", Usage: "with --rejoin: superuser that pg_rewind logs in as; default PGUSER or postgres"},
			serviceFlag(),
			&cli.BoolFlag{Name: "start", Usage: "start the standby, and wait until it has caught up, for 30 minutes at most"}),
		Action: func(x *cli.Context) error {
			if _, err := arguments(x); err != nil {
				return err
			}
			s, err := p.newSetup(x)
			if err != nil {
				return err
			}
			if err := s.standby(x.Context); err != nil {
				return err
			}
			s.tellService()
			return nil
		},
	}
}

// follower is a standby that is being set up.
type follower struct {
	dir     string // the data directory
	follow  pgconf.Standby
	primary pgserver.Params // for replication
	is      pgserver.Identity
	data    *pgdata.Dir  // nil until there is one
	typed   *pgconf.Edit // the password file that is to be made of what was typed, nil if there is one
}

func (s *setup) standby(ctx context.Context) error {
	if err := s.useOwnKey(); err != nil {
		return err
	}
	f, err := s.newFollower()
	if err != nil {
		return err
	}
	if f.data, err = s.present(f.dir); err != nil {
		return err
	}
	if err := s.choose(f); err != nil {
		return err
	}
	if err := s.findPassword(ctx, f); err != nil {
		return err
	}
	if f.is, err = pgserver.Identify(ctx, f.primary); err != nil {
		return f.notReached(err)
	}
	s.line("primary", "%s, cluster %d, timeline %d, at %s", f.at(), f.is.SystemID, f.is.Timeline, f.is.LSN)
	if err := s.fits(f); err != nil {
		return err
	}
	if err := s.rememberGiven(); err != nil {
		return err
	}
	if f.typed != nil {
		if err := s.write(*f.typed); err != nil {
			return err
		}
	}
	if err := s.writeService(); err != nil {
		return err
	}
	fault.At("setup.standby")
	if s.oldPrimary(f) {
		if err := s.rejoin(ctx, f); err != nil || s.dry {
			return err
		}
	}
	if f.data == nil {
		if err := s.copyCluster(ctx, f); err != nil || s.dry {
			return err
		}
	}
	if kept := s.keptFor(f.dir); s.x.Bool("rejoin") && kept.complete() && !s.dry { // an earlier run was stopped in the middle
		if err := kept.putBack(); err != nil {
			return localError(err)
		}
	}
	fault.At("setup.copied")
	if err := s.configureStandby(f); err != nil {
		return err
	}
	if s.dry {
		s.finish()
		return nil
	}
	how, err := s.howTo(ctx, f.data, "start")
	if err != nil {
		return err
	}
	if !serverRuns(f.data) {
		if !s.x.Bool("start") {
			s.finish()
			s.line("next", "start it (or give --start, which waits until it has caught up):")
			s.print("\n%s\n", how)
			return nil
		}
		s.line("start", "%s", how)
		s.changed++
		if err := how.run(ctx); err != nil {
			return err
		}
	} else if s.changed > 0 {
		how, err := s.howTo(ctx, f.data, "restart")
		if err != nil {
			return err
		}
		s.line("note", "the standby runs, and reads its new settings when it is restarted: %s", how)
	}
	if err := s.follows(ctx, f); err != nil {
		return err
	}
	s.finish()
	return nil
}

// newFollower reads the flags.
func (s *setup) newFollower() (*follower, error) {
	f := &follower{dir: s.namedData()}
	if f.dir == "" {
		return nil, usage("-D DIR is missing: the standby's data directory")
	}
	var err error
	if f.dir, err = absolute(f.dir); err != nil {
		return nil, err
	}
	host, port := s.x.String("primary"), "5432"
	if host == "" {
		return nil, usage("--primary HOST is missing: the server to follow")
	}
	if h, p, err := net.SplitHostPort(host); err == nil {
		host, port = h, p
	}
	f.follow = pgconf.Standby{Host: host, Port: port, Role: s.textFlag("role", standbyRole), Trigger: filepath.Join(f.dir, "walship.promote")}
	f.follow.RestoreCommand, err = s.commandFor("fetch %f %p")
	return f, err
}

// choose settles slot, name and cleanup: as the flags say, else as they are. What
// a copy has brought from another server counts for nothing.
func (s *setup) choose(f *follower) error {
	var earlier pgconf.Standby
	if f.data != nil && pgdata.DetectMode(f.dir) == pgdata.Standby && !s.started(f) {
		path := filepath.Join(f.dir, "recovery.conf")
		if f.data.Version >= 120000 {
			conf, err := f.confFile()
			if err != nil {
				return err
			}
			path = filepath.Join(filepath.Dir(conf), pgconf.OwnFile)
		}
		e, err := pgconf.Open(path, 0o600)
		if err != nil {
			return localError(err)
		}
		earlier = pgconf.Earlier(e.Old)
	}
	host, _ := os.Hostname() // it is only a name
	f.follow.Name = cmp.Or(s.x.String("standby-name"), earlier.Name, host)
	f.follow.Slot = earlier.Slot
	if s.x.IsSet("slot") {
		f.follow.Slot = s.x.String("slot")
	}
	clean := earlier.Cleanup != ""
	if s.x.IsSet("archive-cleanup") {
		clean = s.x.Bool("archive-cleanup")
	}
	if !clean {
		return nil
	}
	var err error
	f.follow.Cleanup, err = s.commandFor("prune --keep-from %r --yes")
	if earlier.Cleanup == "" {
		s.line("note", "archive_cleanup_command speaks of this one standby: it does not know how far others are behind, nor to what moment you may want to recover. Where another server reads this archive, run walship prune --keep-backups N from cron instead")
	}
	return err
}

// confFile is the postgresql.conf that the standby is started with.
func (f *follower) confFile() (string, error) {
	if c, ok := f.data.DebianCluster(debianConf()); ok {
		return c.Conf, nil // what pg_ctlcluster starts it with
	}
	return f.data.ConfigFile(debianConf())
}

// at is the primary's address.
func (f *follower) at() string { return net.JoinHostPort(f.follow.Host, f.follow.Port) }

// notReached gives the error of a primary that cannot be asked the hint that is
// right for a standby.
func (f *follower) notReached(err error) error {
	switch pgserver.State(err) {
	case "28P01":
		return transport.WithHint(err, fmt.Sprintf("the password of %s comes from %s: it has to be a copy of the file that setup primary has made there; --passfile and --role name others", f.follow.Role, f.follow.Passfile))
	case "28000":
		return transport.WithHint(err, fmt.Sprintf("on the primary, walship setup primary --standby with this machine's address lets %s in from here; --role names another role", f.follow.Role))
	case "":
		return transport.WithHint(err, fmt.Sprintf("does the server run at %s, and listen to more than its own machine (listen_addresses, which setup primary --standby sets; a firewall)? --primary HOST:PORT names another", f.at()))
	}
	return err
}

// present opens the data directory that is there already, nil if there is none
// to keep: an empty folder, or what an interrupted copy has left.
func (s *setup) present(dir string) (*pgdata.Dir, error) {
	if _, err := os.Stat(filepath.Join(dir, "walship-restore.json")); err == nil {
		return nil, nil // restore clears it itself
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, localError(err)
	}
	data, err := pgdata.Open(dir)
	if errors.Is(err, pgdata.ErrNotDataDir) {
		return nil, transport.WithHint(fmt.Errorf("%w: %s is not empty, and no data directory of PostgreSQL", errLocalFile, dir), "name an empty folder, or one that is not there yet")
	}
	return data, err
}

// fits sees that the server that is there, if any, can follow the primary.
func (s *setup) fits(f *follower) error {
	if f.data == nil {
		return nil
	}
	if f.data.Control.SystemID != f.is.SystemID {
		return transport.WithHint(fmt.Errorf("%w: %s holds cluster %d, the primary %s is cluster %d", errNotAgreed, f.dir, f.data.Control.SystemID, f.at(), f.is.SystemID),
			"a standby is a copy of its primary: name an empty folder with -D; or, if nothing in this one is needed, stop its server and move it away: mv "+shellWord(f.dir)+" "+shellWord(f.dir+".old"))
	}
	if s.oldPrimary(f) && !s.x.Bool("rejoin") {
		return transport.WithHint(fmt.Errorf("%w: %s is no standby: it may hold rows that the primary %s does not have", errNotAgreed, f.dir, f.at()),
			"if it is an old primary in whose place that one was promoted, --rejoin makes it follow; otherwise name an empty folder with -D")
	}
	return nil
}

// oldPrimary reports whether the server that is there is no standby, or not one yet.
func (s *setup) oldPrimary(f *follower) bool {
	return f.data != nil && (halfRewound(f.dir) || pgdata.DetectMode(f.dir) != pgdata.Standby && !s.started(f))
}

// started reports whether an earlier run has made the copy and was stopped
// before it was configured: no server has ever run in it.
func (s *setup) started(f *follower) bool {
	_, label := os.Stat(filepath.Join(f.dir, "backup_label"))
	_, opts := os.Stat(filepath.Join(f.dir, "postmaster.opts"))
	return label == nil && errors.Is(opts, fs.ErrNotExist)
}

// configureStandby writes what makes the server follow, and what it needs once
// it has been promoted.
func (s *setup) configureStandby(f *follower) error {
	v := f.data.Version
	f.follow.Version = v
	if v < 100000 && f.follow.Passfile != s.passfile(v) {
		return usage("PostgreSQL %s looks for the password in %s only: copy it there, and run this again with that --passfile, or none", v, s.passfile(v))
	}
	if f.follow.Slot != "" && v < 90400 {
		return usage("--slot: PostgreSQL %s has no replication slots", v)
	}
	conf, err := f.confFile()
	if err != nil {
		return err
	}
	edits, err := s.standbyEdits(f, conf)
	if err != nil {
		return err
	}
	for _, e := range edits {
		if e.Changes() && !s.dry {
			s.line("wrote", "%s", e.Path)
		}
		if err := s.write(e); err != nil {
			return err
		}
	}
	return nil
}

// standbyEdits are the changes to the standby's files. The last of them makes it
// a standby.
func (s *setup) standbyEdits(f *follower, conf string) ([]pgconf.Edit, error) {
	v := f.data.Version
	settings, err := f.data.SettingsFrom(conf)
	if err != nil {
		return nil, err
	}
	command, err := s.commandFor("push %p %f")
	if err != nil {
		return nil, err
	}
	own := filepath.Join(filepath.Dir(conf), pgconf.OwnFile)
	present := pgconf.Present{Settings: settings, Own: own}
	plan := pgconf.Primary{
		Version: v, ArchiveCommand: command, ArchiveTimeout: "60s", Standbys: 1, Remote: remote([]string{f.follow.Host}),
		Checksums: f.data.Control.DataChecksums != 0,
	}.Plan(present)
	follow := f.follow.Settings()
	conflicts := plan.Conflicts
	if v >= 120000 {
		conflicts = append(slices.Clone(conflicts), present.Against(follow)...)
	}
	var removed []string // from postgresql.auto.conf
	late := false
	for _, c := range conflicts {
		late = late || c.Late
		if pgconf.InAuto(c.Have) {
			removed = append(removed, c.Want.Name)
		}
		if err := s.agree(fmt.Sprintf("%s: replace it with %s?", c.Shown(), pgconf.Quote(c.Want.Value)), "--force"); err != nil {
			return nil, err
		}
	}
	plan.Agree()
	set, asked := plan.Set, plan.Asked
	if port := s.x.String("port"); port != "" {
		set, asked = append(set, pgconf.Assignment{Name: "port", Value: port}), append(asked, "port")
	}
	if v >= 120000 {
		set, asked = append(set, follow...), append(asked, pgconf.StandbyNames()...)
	}
	open := func(path string) (pgconf.Edit, error) {
		e, err := pgconf.Open(path, 0o600)
		e.Data = realDir(f.data.Path)
		return e, localError(err)
	}
	ownEdit, err1 := open(own)
	confEdit, err2 := open(conf)
	hbaEdit, err3 := open(f.hba(settings))
	signal, err4 := open(filepath.Join(f.dir, "standby.signal"))
	recovery, err5 := open(filepath.Join(f.dir, "recovery.conf"))
	auto, err6 := open(filepath.Join(f.dir, pgconf.AutoFile))
	if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
		return nil, err
	}
	if v < 120000 && recovery.Old != nil && !pgconf.Ours(recovery.Old) {
		if err := s.agree(recovery.Path+" is there, and not walship's: replace it?", "--force"); err != nil {
			return nil, err
		}
	}
	if len(removed) > 0 {
		auto.New = pgconf.RemoveAuto(auto.Old, removed)
	}
	if ownEdit.New, err = pgconf.Render(v, pgconf.Merge(ownEdit.Old, set, asked)); err != nil {
		return nil, err
	}
	confEdit.New = pgconf.AddInclude(confEdit.Old, late)
	hbaEdit.New = pgconf.AddAccess(hbaEdit.Old, pgconf.Access{Role: f.follow.Role, Address: f.follow.Host}, v)
	edits := []pgconf.Edit{ownEdit, confEdit, hbaEdit, auto}
	if v >= 120000 {
		if signal.Old == nil {
			signal.New = []byte{}
		}
		return append(edits, signal), nil
	}
	recovery.New, err = pgconf.RenderRecovery(v, follow)
	return append(edits, recovery), err
}

// hba is the standby's pg_hba.conf.
func (f *follower) hba(settings []pgdata.Setting) string {
	if set, ok := pgdata.Lookup(settings, "hba_file"); ok && filepath.IsAbs(set.Value) {
		return set.Value
	}
	return filepath.Join(f.dir, "pg_hba.conf")
}
