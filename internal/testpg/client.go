package testpg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Command prepares one of PostgreSQL's programs, or any other by its path, to
// run as the server's user with the environment that leads to this cluster.
func (c *Cluster) Command(name string, args ...string) (*exec.Cmd, error) {
	path := name
	if !filepath.IsAbs(name) {
		var err error
		if path, err = c.tool(name); err != nil {
			return nil, err
		}
	}
	cmd, err := As(exec.Command(path, args...))
	if err != nil {
		return nil, err
	}
	cmd.Dir = c.Base
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC",
		"PGHOST=" + c.Sockets, fmt.Sprintf("PGPORT=%d", c.Port), "PGUSER=postgres", "PGDATABASE=postgres",
	}
	return cmd, nil
}

// Run runs a program as Command prepares it, to its end, and returns what it
// wrote to standard output. The error carries standard error.
func (c *Cluster) Run(name string, args ...string) (string, error) {
	cmd, err := c.Command(name, args...)
	if err != nil {
		return "", err
	}
	return run(cmd)
}

// Psql runs statements, each in a transaction of its own, up to the first that
// fails. It returns the rows without decoration and without the last newline:
// columns divided by |, one row a line.
func (c *Cluster) Psql(statements string) (string, error) {
	if !strings.ContainsAny(strings.TrimRight(statements, "; \n"), `;\`) {
		return c.direct(statements)
	}
	cmd, err := c.Command("psql", "-XAtq", "-v", "ON_ERROR_STOP=1")
	if err != nil {
		return "", err
	}
	cmd.Stdin = strings.NewReader(statements)
	out, err := run(cmd)
	return strings.TrimSuffix(out, "\n"), err
}

// direct runs one statement without psql, which would cost as much again as all
// that the server does.
func (c *Cluster) direct(statement string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgconn.Connect(ctx, fmt.Sprintf("host=%s port=%d user=postgres database=postgres sslmode=disable", c.Sockets, c.Port))
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	results, err := conn.Exec(ctx, statement).ReadAll()
	if err != nil {
		return "", fmt.Errorf("%s: %w", statement, err)
	}
	var lines []string
	for _, result := range results {
		for _, row := range result.Rows {
			lines = append(lines, string(bytes.Join(row, []byte("|"))))
		}
	}
	return strings.Join(lines, "\n"), nil
}

// Query is Psql that fails the test on an error.
func (c *Cluster) Query(statements string) string {
	c.t.Helper()
	out, err := c.Psql(statements)
	if err != nil {
		c.t.Fatalf("%v", err)
	}
	return out
}

// Pgbench runs pgbench with these arguments and returns its report.
func (c *Cluster) Pgbench(args ...string) (string, error) {
	return c.Run("pgbench", args...)
}

// CurrentWALFile is the segment that the primary writes to.
func (c *Cluster) CurrentWALFile() string {
	c.t.Helper()
	return c.Query("select pg_walfile_name(pg_current_wal_lsn())")
}

// SwitchWAL closes the current segment, whose name it returns, so that it is
// archived. It writes a record first: an unused segment is not closed.
func (c *Cluster) SwitchWAL() string {
	c.t.Helper()
	name := c.Query("select pg_create_restore_point('switch') \\g /dev/null\nselect pg_walfile_name(pg_switch_wal())")
	return name
}

// WaitArchived waits until the archiver has been told that the file is archived
// (.done), and fails the test when that does not happen within limit.
func (c *Cluster) WaitArchived(limit time.Duration, name string) {
	c.t.Helper()
	wal := filepath.Join(c.Data, "pg_wal")
	absent := func(path string) bool {
		_, err := os.Stat(path)
		return errors.Is(err, fs.ErrNotExist)
	}
	done := func() bool {
		status := filepath.Join(wal, "archive_status", name)
		// A checkpoint removes what is archived together with its mark.
		return !absent(status+".done") || absent(status+".ready") && absent(filepath.Join(wal, name))
	}
	if !Poll(limit, done) {
		c.t.Fatalf("%s is not archived after %s:\n%s", name, limit, tail(c.Log(), 20))
	}
}

// Archive closes the current segment and waits until it is archived.
func (c *Cluster) Archive(limit time.Duration) string {
	c.t.Helper()
	name := c.SwitchWAL()
	c.WaitArchived(limit, name)
	return name
}
