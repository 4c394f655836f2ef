package testpg

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// WriteRecovery makes the next start a recovery, of a standby or up to the end
// of the archive, with settings such as restore_command: from PostgreSQL 12 with
// standby.signal or recovery.signal, before with recovery.conf.
func (c *Cluster) WriteRecovery(standby bool, settings map[string]string) {
	c.t.Helper()
	if err := c.writeRecovery(standby, settings); err != nil {
		c.t.Fatalf("%v", err)
	}
}

func (c *Cluster) writeRecovery(standby bool, settings map[string]string) error {
	signals := map[bool]string{true: "standby.signal", false: "recovery.signal"}
	for _, name := range []string{signals[true], signals[false], "recovery.conf"} {
		if err := os.Remove(filepath.Join(c.Data, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if c.Major < 12 {
		all := maps.Clone(settings)
		if all == nil {
			all = map[string]string{}
		}
		if standby {
			all["standby_mode"] = "on"
		}
		return appendSettings(filepath.Join(c.Data, "recovery.conf"), maps.All(all))
	}
	if err := appendSettings(filepath.Join(c.Data, "postgresql.conf"), maps.All(settings)); err != nil {
		return err
	}
	return appendSettings(filepath.Join(c.Data, signals[standby]), maps.All(map[string]string{}))
}

// appendSettings appends lines of postgresql.conf's syntax, which recovery.conf
// shares, and makes the file when it is missing.
func appendSettings(path string, settings iter.Seq2[string, string]) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	quote := strings.NewReplacer(`'`, `''`, `\`, `\\`)
	for name, value := range settings {
		if _, err := fmt.Fprintf(f, "%s = '%s'\n", name, quote.Replace(value)); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return errors.Join(f.Close(), Own(path))
}

// ConnInfo is a primary_conninfo that leads to this cluster.
func (c *Cluster) ConnInfo() string {
	return fmt.Sprintf("host=%s port=%d user=postgres", c.Sockets, c.Port)
}

// Promote asks a recovering server to become a primary and returns at once.
func (c *Cluster) Promote() error {
	_, err := c.Run("pg_ctl", "promote", "-D", c.Data, "-W")
	return err
}

// WaitPrimary waits until recovery has ended and the server takes writes.
func (c *Cluster) WaitPrimary(limit time.Duration) error {
	var last string
	done := func() bool {
		answer, err := c.Psql("select pg_is_in_recovery()")
		last = fmt.Sprintf("%s %v", answer, err)
		return !c.Running() || answer == "f" && err == nil
	}
	if !Poll(limit, done) || !c.Running() {
		return fmt.Errorf("the server is no primary after %s (in recovery: %s):\n%s", limit, last, tail(c.Log(), 20))
	}
	return nil
}
