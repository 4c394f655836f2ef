package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/urfave/cli/v2"

	"walship/archive"
	"walship/internal/config"
	"walship/internal/fault"
	"walship/internal/pgconf"
	"walship/internal/pgdata"
	"walship/internal/pgserver"
	"walship/internal/stored"
	"walship/transport"
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
			serviceFlag(),
			&cli.BoolFlag{Name: "restart", Usage: "restart the server if a setting needs it"}),
		Action: func(x *cli.Context) error {
			if _, err := arguments(x); err != nil {
				return err
			}
			s, err := p.newSetup(x)
			if err != nil {
				return err
			}
			if err := s.primary(x.Context); err != nil {
				return err
			}
			s.tellService()
			return nil
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
	if err := s.writeService(); err != nil {
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
		if v.Name == "config" {
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
	return s.remember(append(values, s.useService()...)...)
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
	for _, one := range s.conf.Each() {
		if err := s.makeOne(ctx, one, data); err != nil {
			return err
		}
	}
	return nil
}

func (s *setup) makeOne(ctx context.Context, conf *config.Config, data *pgdata.Dir) error {
	if s.dry {
		s.line("archive", "%s: the cluster's folder would be made if it is not there", config.MaskURL(conf.Archive))
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, conf.Timeout)
	defer cancel()
	store, err := open(ctx, conf, silencePatient)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	to, err := recipients(conf)
	if err != nil {
		return err
	}
	id, existed, err := archive.Init(ctx, store, data, stored.Codec(conf.Codec), to)
	if err != nil {
		if errors.Is(err, transport.ErrHostKey) || errors.Is(err, transport.ErrLogin) {
			return transport.WithHint(err, "walship setup ssh leads to a login that works")
		}
		return err
	}
	if !existed {
		s.changed++
		s.line("archive", "made at %s, stored as %s%s", config.MaskURL(conf.Archive), id.Codec, sealedText(id.RecipientList()))
		return nil
	}
	s.line("archive", "%s", config.MaskURL(conf.Archive))
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

// nextSteps tells how to go on.
func (s *setup) nextSteps(d *dbServer, p *primaryPlan) {
	if len(p.standbys) == 0 || s.changed == 0 {
		return
	}
	host, _ := os.Hostname() // a name to fill in
	name, backup := host, "walship backup"
	if m, err := d.data.Postmaster(); err == nil && m.Port != "" {
		if m.Port != "5432" {
			host += ":" + m.Port
			backup = "PGPORT=" + m.Port + " " + backup
		}
		if m.Socket != "" && m.Socket != "/var/run/postgresql" && m.Socket != "/run/postgresql" && m.Socket != "/tmp" { // libpq looks there
			backup = "PGHOST=" + shellWord(m.Socket) + " " + backup
		}
	}
	s.line("next", "%s, and then: copy %s to the standby, readable to its server's user alone (it holds the password of %s); there:", backup, p.passfile, p.role)
	archive := config.MaskURL(s.conf.Archive)
	if path, ok := strings.CutPrefix(archive, "file://"); ok { // seen from there
		archive = "sftp://USER@" + name + path
	}
	s.print("\nwalship setup ssh     --archive %s\nwalship setup standby --archive %s --primary %s -D DIR --start\n", archive, archive, host)
}
