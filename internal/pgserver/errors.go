package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"walship/transport"
)

// fail is an error of this server's.
func (t target) fail(format string, args ...any) error {
	return fmt.Errorf("%w at %s: %s", ErrServer, t.where(), fmt.Sprintf(format, args...))
}

// explain words what pgconn reports. A context's own error stays what it is.
func (t target) explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var said *pgconn.PgError
	if errors.As(err, &said) {
		return t.refused(said)
	}
	var dns *net.DNSError
	var errno syscall.Errno
	var timeout net.Error
	switch {
	case errors.As(err, &dns):
		return transport.WithHint(t.fail("the host name %s is not known", dns.Name), t.tried())
	case errors.As(err, &errno) && errno == syscall.ENOENT:
		return transport.WithHint(t.fail("there is no such socket"), "does the server run? "+t.tried())
	case errors.As(err, &errno) && errno == syscall.ECONNREFUSED:
		return transport.WithHint(t.fail("connection refused"), "does the server run, and listen there? "+t.tried())
	case errors.As(err, &errno) && errno == syscall.EACCES:
		return transport.WithHint(t.fail("%v", errno), "this user may not open the socket; "+t.tried())
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		errno == syscall.ECONNRESET, errno == syscall.EPIPE:
		return transport.WithHint(t.fail("the connection was lost"), "the server's log tells why, if it was the server that ended it")
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return transport.WithHint(t.fail("it does not answer"), t.tried())
	case errno != 0:
		return transport.WithHint(t.fail("%v", errno), t.tried())
	}
	return transport.WithHint(t.fail("%s", innermost(err)), t.tried())
}

// tried says who was asked for, and how to ask for another.
func (t target) tried() string {
	return fmt.Sprintf("it was asked for as user %s, database %s; PGHOST, PGPORT, PGUSER and PGDATABASE, or a connection string, say otherwise", t.user, t.database)
}

// refused words the server's own error. It is part of the error, for errors.As.
func (t target) refused(said *pgconn.PgError) error {
	text := said.Message
	if said.Detail != "" {
		text += "; " + said.Detail
	}
	err := fmt.Errorf("%w at %s: %w", ErrServer, t.where(), serverError{strings.ToValidUTF8(text, "?"), said})
	return transport.WithHint(err, t.advice(said))
}

// serverError is a PgError in its plain words.
type serverError struct {
	text string
	said *pgconn.PgError
}

func (e serverError) Error() string { return e.text }
func (e serverError) Unwrap() error { return e.said }

// State is the SQLSTATE of an error that the server has sent, "" of any other.
func State(err error) string {
	var said *pgconn.PgError
	if errors.As(err, &said) {
		return said.Code
	}
	return ""
}

// advice is what helps against an error of the server's, by its SQLSTATE: its
// text may be in any language.
func (t target) advice(said *pgconn.PgError) string {
	replication := ""
	if t.replication {
		replication = ", and a base backup takes one connection for SQL and one for replication"
	}
	switch said.Code {
	case "28P01", "28000":
		return t.loginAdvice(said)
	case "3D000":
		return "PGDATABASE or dbname= in the connection string names another database; postgres is the default"
	case "53300":
		if t.replication && strings.Contains(said.Message, "max_wal_senders") {
			return "raise max_wal_senders (it takes a restart), or wait until another standby or backup has ended"
		}
		return "raise max_connections, or wait until a session has ended" + replication
	case "42501":
		if t.replication {
			return fmt.Sprintf("ALTER ROLE %s REPLICATION, or connect as another role (PGUSER)", t.user)
		}
		return "connect as a role that may do this (PGUSER), as a superuser for instance"
	case "57P03":
		return "the server starts up, stops, or recovers without hot_standby: try again once it accepts connections"
	case "57P01", "57P02":
		return "the server was stopped; try again once it runs"
	case "55000":
		if strings.Contains(said.Message, "WAL level") || strings.Contains(said.Hint, "wal_level") {
			return "set wal_level = replica (hot_standby before 9.6) and restart the server"
		}
	}
	return strings.ToValidUTF8(said.Hint, "?")
}

func (t target) loginAdvice(said *pgconn.PgError) string {
	database := t.database
	if t.replication {
		database = "replication"
	}
	switch {
	case strings.Contains(said.Message, "pg_hba.conf"):
		kind, from := "host", " ADDRESS/32"
		if t.local() && strings.HasPrefix(t.host, "/") {
			kind, from = "local", ""
		}
		return fmt.Sprintf("pg_hba.conf needs a line such as: %s %s %s%s scram-sha-256 (md5 before PostgreSQL 10); then reload the server", kind, database, t.user, from)
	case !t.password && (said.Code == "28P01" || strings.Contains(strings.ToLower(said.Message), "password")):
		return fmt.Sprintf("no password was given: put a line %s:%d:%s:%s:PASSWORD into ~/.pgpass or the file that PGPASSFILE names", t.passHost(), t.port, database, t.user)
	case said.Code == "28P01":
		return fmt.Sprintf("the password comes from PGPASSFILE, ~/.pgpass, PGPASSWORD or the connection string; %s", t.tried())
	}
	return t.tried()
}

// passHost is what the password file calls the host.
func (t target) passHost() string {
	if strings.HasPrefix(t.host, "/") {
		return "localhost"
	}
	return t.host
}

// innermost is the text of the last error in a chain: what pgconn puts around it
// says where, which is said already.
func innermost(err error) string {
	for {
		switch e := err.(type) {
		case interface{ Unwrap() []error }:
			all := e.Unwrap()
			if len(all) == 0 {
				return err.Error()
			}
			err = all[len(all)-1]
		case interface{ Unwrap() error }:
			inner := e.Unwrap()
			if inner == nil {
				return err.Error()
			}
			err = inner
		default:
			return err.Error()
		}
	}
}

// parseProblem says what is wrong with a connection string without showing any
// of it: a mislaid password may stand anywhere in it.
func parseProblem(err error) string {
	text := err.Error()
	for _, known := range []string{
		"failed to read service", "invalid port", "failed to configure TLS", "unknown target_session_attrs value", "invalid connect_timeout",
		"invalid sslcertmode", "unknown channel_binding value", "invalid require_auth", "could not match",
	} {
		if strings.Contains(text, known) {
			return known
		}
	}
	if strings.Contains(text, "failed to parse as URL") {
		return "it is no URI"
	}
	return "it cannot be read"
}
