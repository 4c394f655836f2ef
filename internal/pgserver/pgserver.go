// Package pgserver is everything that walship says to a running PostgreSQL, 9.0
// to 18: it connects, asks, and takes base backups, over the replication
// protocol or between PostgreSQL's backup functions. It writes nothing on this
// machine and never changes a setting of the server.
package pgserver

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"walship/internal/pgdata"
)

// Why something failed, for errors.Is. Messages are one line and never hold the
// password.
var (
	// ErrServer is a database server that is not reachable, or that refuses.
	ErrServer = errors.New("the database server")
	// ErrChecksum is a page of the database that its checksum does not match: the
	// cluster itself is damaged.
	ErrChecksum = errors.New("damaged database page")
	// ErrLocal is a file of the data directory that cannot be read on this machine.
	ErrLocal = errors.New("data directory")
)

// Params say which server is meant.
type Params struct {
	// ConnString is libpq's: a conninfo string or a URI. What it leaves out comes
	// from PGHOST, PGPORT, PGUSER, PGDATABASE, PGPASSFILE, PGSERVICE and so on,
	// then from libpq's defaults: the usual socket folders, 5432, this process's
	// user. The default database is "postgres".
	ConnString string
}

// Versions at which what the server is told or tells has changed.
const (
	version91 pgdata.Version = 90100 // BASE_BACKUP
	version92 pgdata.Version = 90200 // pg_tablespace_location()
	version93 pgdata.Version = 90300 // data checksums; every segment is used
	version94 pgdata.Version = 90400 // pg_stat_archiver, MAX_RATE
	version95 pgdata.Version = 90500 // tablespace_map, pg_file_settings
	version96 pgdata.Version = 90600 // non-exclusive backups, pg_control_system()
	version10 pgdata.Version = 100000
	version11 pgdata.Version = 110000 // BASE_BACKUP verifies data checksums
	version13 pgdata.Version = 130000 // backup manifests
	version15 pgdata.Version = 150000 // BASE_BACKUP's new syntax; no exclusive backups
)

// Conn is a connection for SQL. One call at a time.
type Conn struct {
	pg      *pgconn.PgConn
	to      target
	version pgdata.Version
}

// Null is what Query returns for NULL. No text of the server's is equal to it.
const Null = "\x00"

// sessionTimeout is for a connection that does not say connect_timeout itself.
const connectTimeout = 15 * time.Second

// session makes what is asked mean the same on every server, and keeps the
// session alive for as long as a backup takes. What a version does not know is
// not set.
const session = `SET search_path = pg_catalog; SET datestyle = 'ISO, MDY'; SET statement_timeout = 0; ` +
	`SET standard_conforming_strings = on; SET bytea_output = 'escape'; SET client_encoding = 'SQL_ASCII'; ` +
	`SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN ('lock_timeout', 'idle_session_timeout', 'transaction_timeout')`

// Connect connects for SQL. The error wraps ErrServer, or is ctx's.
func Connect(ctx context.Context, p Params) (*Conn, error) {
	config, err := p.config()
	if err != nil {
		return nil, err
	}
	return connect(ctx, config)
}

func connect(ctx context.Context, config *pgconn.Config) (*Conn, error) {
	to := targetOf(config, false)
	pg, err := dial(ctx, config, to)
	if err != nil {
		return nil, err
	}
	c := &Conn{pg: pg, to: to}
	if c.version, err = majorVersion(c.ServerVersion()); err != nil {
		_ = c.Close()
		return nil, to.fail("%v", err)
	}
	if _, err := c.Query(ctx, session); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// dial opens a connection of either kind.
func dial(ctx context.Context, config *pgconn.Config, to target) (*pgconn.PgConn, error) {
	pg, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, to.explain(ctx, err)
	}
	return pg, nil
}

// majorVersion reads the server_version that a server reports: 9.6.24, 15.20
// (Debian 15.20-1), 19devel.
func majorVersion(s string) (pgdata.Version, error) {
	number := s[:len(s)-len(strings.TrimLeft(s, "0123456789."))]
	first, rest, _ := strings.Cut(number, ".")
	if n, err := strconv.Atoi(first); err == nil && n < 10 {
		second, _, _ := strings.Cut(rest, ".")
		first += "." + second
	}
	v, err := pgdata.ParseVersion(first)
	if err != nil {
		return 0, fmt.Errorf("it reports version %q", s)
	}
	if v < 90000 {
		return 0, fmt.Errorf("it is of version %s, older than 9.0", s)
	}
	return v, nil
}

// Version is the server's major version.
func (c *Conn) Version() pgdata.Version { return c.version }

// ServerVersion is what the server itself says of its version.
func (c *Conn) ServerVersion() string { return c.pg.ParameterStatus("server_version") }

// Local reports whether the server is asked over a unix socket or the loopback
// interface: it then runs on this machine, or at least seems to.
func (c *Conn) Local() bool { return c.to.local() }

// User is the role that was logged in as.
func (c *Conn) User() string { return c.to.user }

// Where names the server in a message: "socket /tmp/.s.PGSQL.5432".
func (c *Conn) Where() string { return c.to.where() }

// Query runs a statement, or several, and returns the rows of the last one as
// text, with Null for NULL. An error that the server reports wraps ErrServer and
// a *pgconn.PgError; the connection can be used on unless Alive says otherwise.
func (c *Conn) Query(ctx context.Context, sql string) ([][]string, error) {
	results, err := c.pg.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, c.to.explain(ctx, err)
	}
	if len(results) == 0 {
		return nil, nil
	}
	last := results[len(results)-1]
	rows := make([][]string, len(last.Rows))
	for i, fields := range last.Rows {
		rows[i] = make([]string, len(fields))
		for j, field := range fields {
			if rows[i][j] = string(field); field == nil {
				rows[i][j] = Null
			}
		}
	}
	return rows, nil
}

// Row is Query for the one row that a statement must return.
func (c *Conn) Row(ctx context.Context, sql string) ([]string, error) {
	rows, err := c.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	if len(rows) != 1 {
		return nil, c.to.fail("it returned %d rows instead of one for: %s", len(rows), sql)
	}
	return rows[0], nil
}

// Value is Row for its first column; NULL is "".
func (c *Conn) Value(ctx context.Context, sql string) (string, error) {
	row, err := c.Row(ctx, sql)
	if err != nil {
		return "", err
	}
	if len(row) == 0 || row[0] == Null {
		return "", nil
	}
	return row[0], nil
}

// Alive reports whether the connection still stands, as far as is known.
func (c *Conn) Alive() bool { return !c.pg.IsClosed() }

// Close ends the connection. It does not wait for the server for more than a
// moment, and may be called again.
func (c *Conn) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return c.pg.Close(ctx)
}

// Literal writes a string as a literal of SQL, whatever is in it.
func Literal(s string) string {
	quoted := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		return " E" + strings.ReplaceAll(quoted, `\`, `\\`)
	}
	return quoted
}
