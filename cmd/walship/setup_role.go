package main

import (
	"context"
	"fmt"

	"walship/internal/fault"
	"walship/internal/pgconf"
	"walship/internal/pgdata"
	"walship/internal/pgserver"
)

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
