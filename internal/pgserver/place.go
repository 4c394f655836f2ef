package pgserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"walship/internal/basebackup"
	"walship/internal/pgdata"
	"walship/transport"
)

// place finds the data directory on this machine and makes sure that it is the
// server's. Up to 9.5 only the backup label that the server then writes into it
// is a proof: see filesSource.
func (b *common) place(ctx context.Context, dir string) (*pgdata.Dir, error) {
	named, err := b.sql.Query(ctx, "SELECT setting FROM pg_settings WHERE name = 'data_directory'")
	if err != nil {
		return nil, err
	}
	said := ""
	if len(named) == 1 {
		said = plain(named[0][0])
	}
	if dir == "" && !b.sql.Local() {
		return nil, transport.WithHint(fmt.Errorf("%w: the server at %s is not on this machine, whose files are to be read", ErrLocal, b.sql.to.where()),
			"use the method protocol, or run walship there")
	}
	if dir == "" && said == "" {
		return nil, transport.WithHint(fmt.Errorf("%w: role %s may not see where it is", ErrLocal, b.sql.to.user), "name the data directory, or connect as a superuser")
	}
	if dir == "" {
		dir = said
	}
	d, err := pgdata.Open(dir)
	if err != nil {
		return nil, localError(err)
	}
	if d.Version != b.sql.version {
		return nil, fmt.Errorf("%w: %s is one of PostgreSQL %s, the server at %s is of %s", ErrLocal, d.Path, d.Version, b.sql.to.where(), b.sql.version)
	}
	if b.info.SystemID != 0 && d.Control.SystemID != b.info.SystemID {
		return nil, fmt.Errorf("%w: %s is that of cluster %d, the server at %s runs cluster %d", ErrLocal, d.Path, d.Control.SystemID, b.sql.to.where(), b.info.SystemID)
	}
	b.info.SystemID = d.Control.SystemID
	if same(d.Path, said) {
		return d, nil
	}
	// A container sees its data under another path, and a copy of a cluster has the
	// same identifier: the time at which the server started tells them apart.
	text, err := b.sql.Value(ctx, "SELECT "+b.sql.epoch("pg_postmaster_start_time()"))
	if err != nil {
		return nil, err
	}
	began, err := instant(text)
	if err != nil {
		return nil, b.sql.to.fail("%v", err)
	}
	if at, err := postmasterStart(d.Path); err != nil || at.Sub(began).Abs() > time.Minute {
		if said == "" {
			said = "another one"
		}
		return nil, transport.WithHint(fmt.Errorf("%w: %s is not that of the server at %s, which is %s", ErrLocal, d.Path, b.sql.to.where(), said),
			"connect to the server that runs in it: PGHOST and PGPORT, or a connection string")
	}
	return d, nil
}

// same reports whether both paths are the same folder on this machine.
func same(a, b string) bool {
	i, err1 := os.Stat(a)
	j, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(i, j)
}

// postmasterStart is when the server in a data directory was started.
func postmasterStart(dir string) (time.Time, error) {
	f, err := os.Open(filepath.Join(dir, "postmaster.pid"))
	if err != nil {
		return time.Time{}, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for i := 0; lines.Scan(); i++ {
		if i == 2 {
			n, err := strconv.ParseInt(strings.TrimSpace(lines.Text()), 10, 64)
			return time.Unix(n, 0), err
		}
	}
	return time.Time{}, errors.New("postmaster.pid is cut short")
}

// tablespaces finds the tablespaces, and that they can be reached on this machine.
func (b *common) tablespaces(ctx context.Context, d *pgdata.Dir) ([]tablespace, error) {
	location := "pg_tablespace_location(oid)"
	if b.sql.version < version92 {
		location = "spclocation"
	}
	rows, err := b.sql.Query(ctx, "SELECT oid, "+location+" FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global') ORDER BY oid")
	if err != nil {
		return nil, err
	}
	var all []tablespace
	version := fmt.Sprintf("PG_%s_%d", b.sql.version, d.Control.CatalogVersion)
	for _, row := range rows {
		oid, err := strconv.ParseUint(row[0], 10, 32)
		if err != nil {
			return nil, b.sql.to.fail("tablespace %q", row[0])
		}
		if !filepath.IsAbs(row[1]) {
			continue // a folder of the data directory itself
		}
		root := filepath.Join(d.Path, "pg_tblspc", row[0])
		if _, err := os.Stat(filepath.Join(root, version)); err != nil {
			return nil, transport.WithHint(fmt.Errorf("%w: tablespace %s at %s: %w", ErrLocal, row[0], row[1], err), "the method protocol does not read it on this machine")
		}
		size := b.sizeOf(ctx, row[0])
		b.info.Size += size
		all = append(all, tablespace{uint32(oid), root, version})
		b.info.Tablespaces = append(b.info.Tablespaces, basebackup.Tablespace{OID: uint32(oid), Location: row[1], Size: size})
	}
	for _, own := range []string{"1663", "1664"} { // pg_default, pg_global
		b.info.Size += b.sizeOf(ctx, own)
	}
	return all, nil
}

// tablespace is a folder to walk.
type tablespace struct {
	oid     uint32
	root    string // its location on this machine, or the link to it
	version string // the folder of this version of PostgreSQL in it
}

// sizeOf is a tablespace's size in bytes, 0 if the role may not know it.
func (b *common) sizeOf(ctx context.Context, oid string) int64 {
	text, err := b.sql.Value(ctx, "SELECT pg_tablespace_size("+oid+"::oid)")
	if err != nil {
		return 0
	}
	return count(text)
}
