package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"walship/archive"
	"walship/internal/config"
	"walship/internal/fault"
	"walship/internal/layout"
	"walship/internal/pgconf"
	"walship/internal/pgdata"
	"walship/internal/pgserver"
	"walship/internal/stored"
	"walship/transport"
	"walship/walname"
)

// standbyRole is the role that standbys log in as, unless --role says otherwise.
const standbyRole = "walship"

func (p *program) setupPrimaryCommand() *cli.Command {
	return &cli.Command{
		Name:  "setup primary",
		Usage: "let a running server archive, and let standbys follow it",
		Description: "walship setup primary --archive sftp://wal@backup/srv/wal --standby 192.0.2.7\n\n" +
			"Run it on the server's machine, as the server's user. It makes the archive,\n" +
			"writes settings into a file of its own, walship.conf, which postgresql.conf\n" +
			"includes, and sees a segment arrive in the archive. Values that you have set\n" +
			"stay, unless they keep it from working: then it asks.",
		Flags: append(append(common(), setupFlags()...), setupDataFlag("data directory of the server; default PGDATA, else the server that runs is looked for"),
			&cli.StringFlag{Name: "standby", Usage: "addresses of the standbys, divided by commas: 192.0.2.7, 10.0.0.0/8, db2.example.com"},
			&cli.StringFlag{Name: "role", Usage: "role that standbys log in as; default " + standbyRole},
			&cli.StringFlag{Name: "slot", Usage: "replication slots to make, divided by commas (from 9.4 on)"},
			&cli.StringFlag{Name: "slot-keep", Usage: "what the slot of an absent standby may keep in pg_wal at most (from 13 on); default 16GB"},
			&cli.StringFlag{Name: "archive-timeout", Usage: "archive_timeout, if it is not set: the most that a lost primary takes with it; default 60s"},
			&cli.BoolFlag{Name: "restart", Usage: "restart the server if a setting needs it"}),
		Action: func(x *cli.Context) error {
			if _, err := arguments(x); err != nil {
				return err
			}
			s, err := p.newSetup(x)
			if err != nil {
				return err
			}
			return s.primary(x.Context)
		},
	}
}

// textFlag is a flag's value, or its default.
func (s *setup) textFlag(name, otherwise string) string {
	if v := s.x.String(name); v != "" {
		return v
	}
	return otherwise
}

// listFlag is a flag's values, divided by commas.
func (s *setup) listFlag(name string) (list []string) {
	for _, v := range strings.Split(s.x.String(name), ",") {
		if v = strings.TrimSpace(v); v != "" {
			list = append(list, v)
		}
	}
	return list
}

// primaryPlan is what setup primary is going to do.
type primaryPlan struct {
	standbys, slots []string
	role, passfile  string
	plan            pgconf.Plan
	edits           []pgconf.Edit
	resets          []string // settings that ALTER SYSTEM has to let go of
}

func (s *setup) primary(ctx context.Context) error {
	if err := s.useOwnKey(); err != nil {
		return err
	}
	d, err := s.findServer(ctx)
	if err != nil {
		return err
	}
	defer func() { d.close() }()
	version := d.data.Version
	s.line("server", "PostgreSQL %s in %s, cluster %d", version, d.data.Path, d.data.Control.SystemID)
	if recovering, err := d.conn.Value(ctx, "SELECT pg_is_in_recovery()"); err != nil {
		return err
	} else if recovering == "t" {
		return transport.WithHint(fmt.Errorf("%w at %s: this server is a standby", pgserver.ErrServer, d.conn.Where()), "setup primary is for the server that others follow; a standby archives once it has been promoted")
	}
	plan, err := s.planPrimary(d)
	if err != nil {
		return err
	}
	if err := s.rememberGiven(); err != nil {
		return err
	}
	if err := s.makeArchive(ctx, d.data); err != nil {
		return err
	}
	fault.At("setup.archive")
	if err := s.makeRole(ctx, d, plan); err != nil {
		return err
	}
	fault.At("setup.role")
	for _, e := range plan.edits {
		if e.Changes() && !s.dry {
			s.line("wrote", "%s", e.Path)
		}
		if err := s.write(e); err != nil {
			return err
		}
	}
	fault.At("setup.files")
	if err := s.resetAuto(ctx, d, plan); err != nil {
		return err
	}
	if err := s.makeSlots(ctx, d, plan); err != nil {
		return err
	}
	if s.dry {
		s.finish()
		return nil
	}
	waiting, err := s.reload(ctx, d, plan)
	if err != nil {
		return err
	}
	if len(waiting) > 0 {
		done, err := s.restart(ctx, d, waiting)
		if err != nil || !done {
			return err
		}
	}
	if err := s.prove(ctx, d); err != nil {
		return err
	}
	s.finish()
	s.nextSteps(d, plan)
	return nil
}

// useOwnKey takes the key and the known hosts that setup ssh has made, if the
// configuration names none.
func (s *setup) useOwnKey() error {
	if err := s.conf.RequireArchive(); err != nil {
		return err
	}
	if !strings.HasPrefix(s.conf.Archive, "sftp:") {
		return nil
	}
	if _, err := os.Stat(s.own("id_ed25519")); s.conf.SSHKey == "" && err == nil {
		s.conf.SSHKey = s.own("id_ed25519")
	}
	if _, err := os.Stat(s.own("known_hosts")); s.conf.KnownHosts == "" && err == nil {
		s.conf.KnownHosts = s.own("known_hosts")
	}
	// What PostgreSQL starts reaches no agent either.
	return os.Unsetenv("SSH_AUTH_SOCK")
}

// rememberGiven writes what was said on the command line or in the environment
// into walship's configuration: PostgreSQL's commands have neither.
func (s *setup) rememberGiven() error {
	var values [][2]string
	for _, v := range s.conf.Values() {
		if v.Name == "config" || v.Name == "agent" {
			continue
		}
		if strings.HasPrefix(v.Origin, "flag ") || strings.HasPrefix(v.Origin, "environment ") {
			values = append(values, [2]string{v.Name, v.Text})
		}
	}
	if s.conf.SSHKey == s.own("id_ed25519") {
		values = append(values, [2]string{"ssh_key", s.conf.SSHKey})
	}
	if s.conf.KnownHosts == s.own("known_hosts") {
		values = append(values, [2]string{"known_hosts", s.conf.KnownHosts})
	}
	return s.remember(values...)
}

// planPrimary works out the changes to the server's files, and asks about what
// stands against them.
func (s *setup) planPrimary(d *dbServer) (*primaryPlan, error) {
	p := &primaryPlan{standbys: s.listFlag("standby"), slots: s.listFlag("slot"), role: s.textFlag("role", standbyRole)}
	v := d.data.Version
	p.passfile = s.passfile(v)
	for _, slot := range p.slots {
		if !regexp.MustCompile(`^[a-z0-9_]{1,63}$`).MatchString(slot) {
			return nil, usage("--slot %q: a slot's name has small letters, digits and _ only", slot)
		}
	}
	if len(p.slots) > 0 && v < 90400 {
		return nil, usage("--slot: PostgreSQL %s has no replication slots; the archive keeps what a standby needs", v)
	}
	for _, a := range p.standbys {
		if strings.ContainsAny(a, " \t\"#'\\") {
			return nil, usage("--standby %q is no address, network or host name", a)
		}
	}
	command, err := s.commandFor("push %p %f")
	if err != nil {
		return nil, err
	}
	settings, err := d.data.SettingsFrom(d.conf)
	if err != nil {
		return nil, err
	}
	own := filepath.Join(filepath.Dir(d.conf), pgconf.OwnFile)
	want := pgconf.Primary{
		Version: v, ArchiveCommand: command, ArchiveTimeout: s.textFlag("archive-timeout", "60s"),
		Standbys: len(p.standbys), Remote: remote(p.standbys), Slots: len(p.slots), SlotKeep: s.textFlag("slot-keep", "16GB"),
		Checksums: d.data.Control.DataChecksums != 0,
	}
	p.plan = want.Plan(pgconf.Present{Settings: settings, Own: own})
	for _, kept := range p.plan.Kept {
		s.line("kept", "%s", kept)
	}
	for _, note := range p.plan.Notes {
		s.line("note", "%s", note)
	}
	late := false
	for _, c := range p.plan.Conflicts {
		if c.Wins && !c.Late && !strings.HasSuffix(c.Have.File, "/postgresql.auto.conf") {
			return nil, transport.WithHint(fmt.Errorf("%w: %s stands against %s = %s, and wins over every file", errNotAgreed, c.Shown(), c.Want.Name, pgconf.Quote(c.Want.Value)),
				"the server was started with it: take it out of its command line and restart the server")
		}
		if err := s.agree(fmt.Sprintf("%s: replace it with %s?", c.Shown(), pgconf.Quote(c.Want.Value)), "--force"); err != nil {
			return nil, err
		}
		if c.Wins && !c.Late {
			p.resets = append(p.resets, c.Want.Name)
		}
		late = late || c.Late
	}
	p.plan.Agree()
	if p.edits, err = s.primaryEdits(d, p, own, late); err != nil {
		return nil, err
	}
	return p, nil
}

// primaryEdits are the changes to the server's files: walship's own first, for
// without it the include would keep the server from starting.
func (s *setup) primaryEdits(d *dbServer, p *primaryPlan, own string, late bool) ([]pgconf.Edit, error) {
	file, err := pgconf.Open(own, 0o600)
	if err != nil {
		return nil, localError(err)
	}
	conf, err := pgconf.Open(d.conf, 0o600)
	if err != nil {
		return nil, localError(err)
	}
	hba, err := pgconf.Open(d.hba, 0o600)
	if err != nil {
		return nil, localError(err)
	}
	if file.New, err = pgconf.Render(d.data.Version, pgconf.Merge(file.Old, p.plan.Set, p.plan.Asked)); err != nil {
		return nil, err
	}
	conf.New = pgconf.AddInclude(conf.Old, late)
	for _, a := range p.standbys {
		hba.New = pgconf.AddAccess(hba.New, pgconf.Access{Role: p.role, Address: a}, d.data.Version)
	}
	data := realDir(d.data.Path)
	file.Data, conf.Data, hba.Data = data, data, data
	return []pgconf.Edit{file, conf, hba}, nil
}

// commandFor writes a command for PostgreSQL's settings, with absolute paths: it
// is started with hardly any environment.
func (s *setup) commandFor(rest string) (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	percent := func(word string) string { return strings.ReplaceAll(shellWord(word), "%", "%%") }
	return percent(exe) + " --config " + percent(s.file) + " " + rest, nil
}

// remote reports whether any of the standbys is on another machine.
func remote(standbys []string) bool {
	for _, a := range standbys {
		if ip := net.ParseIP(a); a != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return true
		}
	}
	return false
}

// passfile is where the standbys' password is kept: from 10 on a connection
// string can name it, before it has to be the server's user's own.
func (s *setup) passfile(v pgdata.Version) string {
	if v >= 100000 {
		return s.own("pgpass")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = filepath.Dir(s.file)
	}
	return filepath.Join(home, ".pgpass")
}

// makeArchive makes the cluster's part of the archive.
func (s *setup) makeArchive(ctx context.Context, data *pgdata.Dir) error {
	if s.dry {
		s.line("archive", "%s: the cluster's folder would be made if it is not there", config.MaskURL(s.conf.Archive))
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.conf.Timeout)
	defer cancel()
	store, err := open(ctx, s.conf, silencePatient)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	id, existed, err := archive.Init(ctx, store, data, stored.Codec(s.conf.Codec))
	if err != nil {
		if errors.Is(err, transport.ErrHostKey) || errors.Is(err, transport.ErrLogin) {
			return transport.WithHint(err, "walship setup ssh leads to a login that works")
		}
		return err
	}
	if !existed {
		s.changed++
		s.line("archive", "made at %s, stored as %s", config.MaskURL(s.conf.Archive), id.Codec)
		return nil
	}
	s.line("archive", "%s", config.MaskURL(s.conf.Archive))
	return nil
}

// statement runs SQL that changes something, or shows it. What is secret in it
// is not shown.
func (s *setup) statement(ctx context.Context, d *dbServer, sql, shown string) error {
	s.changed++
	if s.dry {
		s.line("would run", "%s", shown)
		return nil
	}
	s.line("ran", "%s", shown)
	_, err := d.conn.Query(ctx, sql)
	return err
}

// ident quotes an identifier for SQL.
func ident(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// makeRole sees to it that there is a role that standbys can log in as, and that
// the password file has its password.
func (s *setup) makeRole(ctx context.Context, d *dbServer, p *primaryPlan) error {
	if len(p.standbys) == 0 {
		return nil
	}
	file, err := pgconf.Open(p.passfile, 0o600)
	if err != nil {
		return localError(err)
	}
	file.Secret = true
	password, found := pgconf.Password(file.Old, p.role)
	rows, err := d.conn.Query(ctx, "SELECT rolpassword FROM pg_authid WHERE rolname = "+pgserver.Literal(p.role))
	if err != nil {
		return err
	}
	exists := len(rows) > 0
	if exists && found && pgconf.Verifies(rows[0][0], p.role, password) {
		s.line("role", "%s, its password in %s", p.role, p.passfile)
		return s.grant(ctx, d, p)
	}
	if exists {
		why := "whose password is not in " + p.passfile
		if err := s.agree(fmt.Sprintf("there is a role %s, %s; give it a new password?", p.role, why), "--force"); err != nil {
			return err
		}
	}
	if !found {
		password = pgconf.NewPassword()
		file.New = pgconf.SetPassword(file.Old, p.role, password)
		// The file first: a role whose password nobody has helps no one.
		if err := s.write(file); err != nil {
			return err
		}
	}
	fault.At("setup.passfile")
	secret, err := pgconf.Verifier(d.data.Version, p.role, password)
	if err != nil {
		return err
	}
	verb, rights := "CREATE", replicationRight(d.data.Version)+" LOGIN"
	if exists {
		verb = "ALTER"
	}
	sql := func(secret string) string {
		return fmt.Sprintf("%s ROLE %s %s ENCRYPTED PASSWORD %s", verb, ident(p.role), rights, secret)
	}
	if err := s.statement(ctx, d, sql(pgserver.Literal(secret)), sql("'…'")); err != nil {
		return err
	}
	s.line("role", "%s, its password in %s", p.role, p.passfile)
	return nil
}

// replicationRight is what a role needs to stream.
func replicationRight(v pgdata.Version) string {
	if v < 90100 {
		return "SUPERUSER"
	}
	return "REPLICATION"
}

// grant gives an existing role what it lacks.
func (s *setup) grant(ctx context.Context, d *dbServer, p *primaryPlan) error {
	right := replicationRight(d.data.Version)
	column := map[string]string{"SUPERUSER": "rolsuper", "REPLICATION": "rolreplication OR rolsuper"}[right]
	ok, err := d.conn.Value(ctx, "SELECT rolcanlogin AND ("+column+") FROM pg_roles WHERE rolname = "+pgserver.Literal(p.role))
	if err != nil || ok == "t" {
		return err
	}
	sql := fmt.Sprintf("ALTER ROLE %s %s LOGIN", ident(p.role), right)
	return s.statement(ctx, d, sql, sql)
}

// resetAuto lets go of what ALTER SYSTEM has set against the plan.
func (s *setup) resetAuto(ctx context.Context, d *dbServer, p *primaryPlan) error {
	for _, name := range p.resets {
		sql := "ALTER SYSTEM RESET " + name
		if d.data.Version < 90500 {
			sql = "ALTER SYSTEM SET " + name + " = DEFAULT"
		}
		if err := s.statement(ctx, d, sql, sql); err != nil {
			return err
		}
	}
	return nil
}

// makeSlots makes the replication slots that are not there.
func (s *setup) makeSlots(ctx context.Context, d *dbServer, p *primaryPlan) error {
	for _, slot := range p.slots {
		rows, err := d.conn.Query(ctx, "SELECT 1 FROM pg_replication_slots WHERE slot_name = "+pgserver.Literal(slot))
		if err != nil {
			return err
		}
		if len(rows) > 0 {
			s.line("slot", "%s", slot)
			continue
		}
		sql := "SELECT pg_create_physical_replication_slot(" + pgserver.Literal(slot) + ")"
		if err := s.statement(ctx, d, sql, sql); err != nil {
			return err
		}
	}
	return nil
}

// reload makes the server read its files, and returns the settings that wait for
// a restart.
func (s *setup) reload(ctx context.Context, d *dbServer, p *primaryPlan) (waiting []string, err error) {
	if err := s.checkFiles(ctx, d); err != nil {
		return nil, err
	}
	if _, err := d.conn.Query(ctx, "SELECT pg_reload_conf()"); err != nil {
		return nil, err
	}
	current := make(map[string]string)
	read, err := wait(ctx, 20*time.Second, func() (bool, error) {
		for _, a := range p.plan.Set {
			value, err := d.conn.Value(ctx, "SELECT setting || coalesce(CASE WHEN unit IN ('s', 'ms') THEN unit END, '') FROM pg_settings WHERE name = "+pgserver.Literal(a.Name))
			if err != nil {
				return false, err
			}
			current[a.Name] = value
			if a.Name == "archive_command" && value != a.Value && value != "(disabled)" {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	if !read {
		return nil, transport.WithHint(fmt.Errorf("%w at %s: after a reload archive_command is still %q", pgserver.ErrServer, d.conn.Where(), current["archive_command"]),
			"the server's log says which line of which file keeps it from reading them")
	}
	for _, a := range p.plan.Set {
		if pgconf.NeedsRestart(d.data.Version, a.Name) && !strings.EqualFold(current[a.Name], a.Value) {
			waiting = append(waiting, a.Name)
		}
	}
	for name, off := range map[string]string{"archive_mode": "off", "wal_level": "minimal"} {
		value, err := d.conn.Value(ctx, "SELECT setting FROM pg_settings WHERE name = "+pgserver.Literal(name))
		if err != nil {
			return nil, err
		}
		if _, ours := current[name]; value == off && !ours {
			waiting = append(waiting, name)
		}
	}
	return waiting, nil
}

// checkFiles asks the server whether it would take its files as they are now, on
// which its next start hangs. Before 9.5 it cannot tell.
func (s *setup) checkFiles(ctx context.Context, d *dbServer) error {
	if d.data.Version < 90500 {
		return nil
	}
	rows, err := d.conn.Query(ctx, "SET lc_messages = 'C'; SELECT sourcefile, sourceline, name, error FROM pg_file_settings WHERE error IS NOT NULL AND error <> 'setting could not be applied'")
	if err != nil || len(rows) == 0 {
		return err
	}
	r := rows[0]
	return transport.WithHint(fmt.Errorf("%w at %s: it refuses its configuration: %s, line %s: %s: %s", pgserver.ErrServer, d.conn.Where(), r[0], r[1], r[2], r[3]),
		"mend that line before the server is started anew: it would not start; walship setup undo puts back what setup has changed")
}

// restart restarts the server if that is agreed to. done is false if it was not.
func (s *setup) restart(ctx context.Context, d *dbServer, waiting []string) (done bool, err error) {
	how, err := s.howTo(ctx, d.data, "restart")
	if err != nil {
		return false, err
	}
	names := strings.Join(waiting, ", ")
	yes := s.x.Bool("restart")
	if !yes {
		yes, _ = s.ask(fmt.Sprintf("%s: this takes a restart of the server, which ends its sessions; restart it now?", names))
	}
	if !yes {
		s.line("restart", "needed for %s. It ends the server's sessions, so it is left to you:", names)
		s.print("\n%s\n", how)
		s.line("then", "run this again: it sees a segment arrive in the archive. (--restart does both.)")
		return false, nil
	}
	s.line("restart", "for %s: %s", names, how)
	s.changed++
	d.close()
	if err := how.run(ctx); err != nil {
		return false, err
	}
	var last error
	ok, err := wait(ctx, time.Minute, func() (bool, error) {
		last = d.connect(ctx)
		return last == nil, nil
	})
	if err == nil && !ok {
		err = last
	}
	return ok, err
}

// prove closes a segment and sees it arrive in the archive. If nothing was
// changed, a segment that the server has archived already is proof enough.
func (s *setup) prove(ctx context.Context, d *dbServer) error {
	v := d.data.Version
	if s.changed == 0 && v >= 90400 {
		a, err := d.conn.Archiver(ctx)
		if err != nil {
			return err
		}
		if a.LastArchived != "" && !a.LastFailedIsLatest {
			s.line("archiving", "works: %s was archived at %s", a.LastArchived, a.LastArchivedTime.UTC().Format("2006-01-02 15:04:05 UTC"))
			return nil
		}
	}
	began := time.Now()
	if v >= 90100 {
		if _, err := d.conn.Query(ctx, "SELECT pg_create_restore_point('walship setup')"); err != nil {
			return err
		}
	}
	sql := "SELECT pg_walfile_name(pg_switch_wal())"
	if v < 100000 {
		sql = "SELECT pg_xlogfile_name(pg_switch_xlog())"
	}
	text, err := d.conn.Value(ctx, sql)
	if err != nil {
		return err
	}
	name, err := walname.Parse(text)
	if err != nil {
		return err
	}
	arrived, err := s.arrives(ctx, d, name)
	if err != nil {
		return err
	}
	if !arrived {
		return s.notArrived(ctx, d, text)
	}
	s.line("archiving", "works: %s was closed and is in the archive, after %.1f s", text, time.Since(began).Seconds())
	return nil
}

// arriveLimit is how long a segment may take to arrive: the archiver asks again
// within a minute after failures.
const arriveLimit = 75 * time.Second

// arrives waits for a file of that name in the archive.
func (s *setup) arrives(ctx context.Context, d *dbServer, name walname.Name) (bool, error) {
	store, err := open(ctx, s.conf, silencePatient)
	if err != nil {
		return false, err
	}
	defer func() { _ = store.Close() }()
	stem := layout.Cluster{SystemID: d.data.Control.SystemID}.Stem(name)
	arrived := false
	_, err = wait(ctx, arriveLimit, func() (bool, error) {
		for _, ext := range stored.Extensions(stored.Written()) {
			_, err := store.Head(ctx, path.Clean(stem+ext), 0)
			if err == nil {
				arrived = true
				return true, nil
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return false, err
			}
		}
		a, err := d.conn.Archiver(ctx) // no need to wait for what fails
		return err == nil && a.LastFailedIsLatest && a.LastFailed == name.String(), err
	})
	return arrived, err
}

// notArrived is the error about a segment that does not arrive. A push by hand, in
// an environment as poor as the server's, tells the reason.
func (s *setup) notArrived(ctx context.Context, d *dbServer, segment string) error {
	text := segment + " has not arrived in the archive"
	if a, err := d.conn.Archiver(ctx); err == nil && a.Counted {
		text += fmt.Sprintf(" (archived %d, failed %d)", a.Archived, a.Failed)
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.conf.Timeout+2*grace)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe, "--config", s.file, "push", filepath.Join(filepath.Base(d.data.WALDir()), segment), segment)
	cmd.Dir, cmd.Env = d.data.Path, []string{"PATH=/usr/bin:/bin"}
	said, err := cmd.CombinedOutput()
	if err == nil {
		return transport.WithHint(fmt.Errorf("%w at %s: %s; by hand the push works", pgserver.ErrServer, d.conn.Where(), text),
			"the server's log has what its archive_command said")
	}
	reason, hint, _ := strings.Cut(strings.TrimSpace(string(said)), "\nwalship: hint: ")
	failed := fmt.Errorf("%w at %s: %s: %s", pgserver.ErrServer, d.conn.Where(), text, strings.TrimPrefix(reason, "walship: push: "))
	if hint == "" {
		return failed
	}
	return transport.WithHint(failed, hint)
}

// nextSteps tells how to go on.
func (s *setup) nextSteps(d *dbServer, p *primaryPlan) {
	if len(p.standbys) == 0 || s.changed == 0 {
		return
	}
	s.line("next", "walship backup, and then: copy %s to the standby, readable to its server's user alone (it holds the password of %s); there:", p.passfile, p.role)
	host, _ := os.Hostname() // a name to fill in
	if m, err := d.data.Postmaster(); err == nil && m.Port != "" && m.Port != "5432" {
		host += ":" + m.Port
	}
	s.print("\nwalship setup standby --archive %s --primary %s\n", config.MaskURL(s.conf.Archive), host)
}
