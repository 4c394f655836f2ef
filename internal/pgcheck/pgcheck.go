// Package pgcheck reads a running server's data to find damage: with the
// server's own pg_amcheck where that is at hand, otherwise by reading every row
// of every table. It is for a server that nobody else uses: it connects to all
// of its databases, and pg_amcheck makes an extension in them.
package pgcheck

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"walship/internal/pgdata"
	"walship/internal/pgrun"
	"walship/internal/pgserver"
)

// ErrCheck is a check that could not be carried out.
var ErrCheck = errors.New("the check could not be carried out")

// Options say what is checked, and how.
type Options struct {
	Install pgrun.Install // where pg_amcheck may be
	Owner   pgrun.Owner   // as whom it runs
	Host    string        // folder of the socket
	Port    int
	User    string // a superuser

	Jobs int // connections at a time
	// Share is the part of the tables that is checked: 1 is all. Which ones, Seed
	// decides.
	Share float64
	Seed  uint64

	// Progress, if not nil, is called with the bytes that are done since the last
	// call. Found is called with each problem.
	Progress func(bytes int64)
	Found    func(problem string)
}

// Methods of a check.
const (
	Amcheck = "pg_amcheck"
	Read    = "read"
)

// Result is what a check has come to.
type Result struct {
	Method    string
	Why       string // why pg_amcheck was not used, "" if it was
	Databases int
	Relations int64 // tables; with pg_amcheck their indexes too
	Rows      int64 // with Read
	Bytes     int64
	Problems  int64
}

// Check checks all databases of the server. Damage is no error: the result
// counts it. An error wraps ErrCheck, or is ctx's.
func Check(ctx context.Context, o Options) (Result, error) {
	c, err := o.connect(ctx, "postgres")
	if err != nil {
		if c, err = o.connect(ctx, "template1"); err != nil {
			return Result{}, err
		}
	}
	databases, err := prepare(ctx, c)
	if err != nil {
		return Result{}, errors.Join(err, c.Close())
	}
	result := Result{Method: Amcheck, Databases: len(databases)}
	program, why, err := amcheckHere(ctx, o, c)
	closed := c.Close()
	switch {
	case err != nil:
		return result, err
	case closed != nil:
		return result, closed
	case why == "":
		err = o.amcheck(ctx, program, databases, &result)
	default:
		result.Method, result.Why = Read, why
		err = o.read(ctx, databases, &result)
	}
	if err == nil && result.Relations == 0 {
		err = fmt.Errorf("%w: no table was looked at", ErrCheck)
	}
	return result, err
}

// prepare returns the names of the databases, all of which it makes accept
// connections. One that a DROP DATABASE has left half done is none.
func prepare(ctx context.Context, c *pgserver.Conn) ([]string, error) {
	whole := ""
	if c.Version() >= 160000 {
		whole = " AND datconnlimit <> -2"
	}
	_, err := c.Query(ctx, "UPDATE pg_database SET datallowconn = true, datconnlimit = -1 "+
		"WHERE datname <> 'template0' AND (NOT datallowconn OR datconnlimit = 0)"+whole)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCheck, err)
	}
	rows, err := c.Query(ctx, "SELECT datname FROM pg_database WHERE datallowconn"+whole+" ORDER BY datname")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCheck, err)
	}
	var names []string
	for _, row := range rows {
		names = append(names, row[0])
	}
	return names, nil
}

// amcheckHere returns the path of pg_amcheck, or why it cannot be used.
func amcheckHere(ctx context.Context, o Options, c *pgserver.Conn) (program, why string, err error) {
	program, ok := o.Install.Program("pg_amcheck")
	switch {
	case c.Version() < 140000:
		return "", fmt.Sprintf("PostgreSQL %s has no pg_amcheck", c.Version()), nil
	case !ok:
		return "", "there is no pg_amcheck in " + o.Install.Bin, nil
	}
	there, err := c.Value(ctx, "SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'")
	if err != nil {
		return "", "", fmt.Errorf("%w: %w", ErrCheck, err)
	}
	if there == "0" {
		return "", "the extension amcheck is not installed on this machine", nil
	}
	return program, "", nil
}

func (o Options) connect(ctx context.Context, database string) (*pgserver.Conn, error) {
	c, err := pgserver.Connect(ctx, pgserver.Params{ConnString: ConnString(o.Host, o.Port, o.User, database)})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCheck, err)
	}
	return c, nil
}

// ConnString leads to a database of a server on this machine, whatever PGHOST and
// the like say.
func ConnString(host string, port int, user, database string) string {
	quote := func(s string) string {
		return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
	}
	return fmt.Sprintf("host=%s port=%d user=%s dbname=%s sslmode=disable options=''", quote(host), port, quote(user), quote(database))
}

// relation is a table to look at.
type relation struct {
	oid          uint32
	kind         string // relkind: r, m, t
	schema, name string
	bytes        int64
}

// quoted is the relation's name in SQL.
func (r relation) quoted() string { return ident(r.schema) + "." + ident(r.name) }

func ident(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// page bounds what is known of a database's tables at a time.
const page = 5000

// relations calls fn with the tables of a database, those that the sample holds.
// Memory does not grow with their number.
func (o Options) relations(ctx context.Context, c *pgserver.Conn, s *sample, toast bool, fn func(relation) error) error {
	which := "c.relkind IN (" + kindsOf(c.Version(), toast) + ")"
	if c.Version() >= 90300 {
		which += " AND c.relispopulated" // a materialized view without data cannot be read
	}
	last := uint64(0)
	for {
		rows, err := c.Query(ctx, fmt.Sprintf("SELECT c.oid, c.relkind, n.nspname, c.relname, coalesce(pg_relation_size(c.oid), 0) "+
			"FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "+
			"WHERE %s AND n.nspname !~ '^pg_(toast_)?temp_' AND c.oid > '%d'::oid ORDER BY c.oid LIMIT %d", which, last, page))
		if err != nil {
			return fmt.Errorf("%w: list of tables: %w", ErrCheck, err)
		}
		for _, row := range rows {
			if last, err = strconv.ParseUint(row[0], 10, 32); err != nil {
				return fmt.Errorf("%w: OID %q", ErrCheck, row[0])
			}
			bytes, _ := strconv.ParseInt(row[4], 10, 64) // a number, as the server's
			if !s.takes() {
				continue
			}
			if err := fn(relation{uint32(last), row[1], row[2], row[3], bytes}); err != nil {
				return err
			}
		}
		if len(rows) < page {
			return nil
		}
	}
}

// sample draws one in every so many, evenly, beginning at random. At least one
// of the first few is taken.
type sample struct {
	step, next float64
	seen       float64
}

// firsts is fewer than the tables that every database has.
const firsts = 40

func newSample(share float64, seed uint64) *sample {
	if share >= 1 {
		return &sample{step: 1}
	}
	step := 1 / share
	r := rand.New(rand.NewPCG(seed, seed))
	return &sample{step: step, next: r.Float64() * min(step, firsts)}
}

func (s *sample) takes() bool {
	s.seen++
	if s.seen <= s.next {
		return false
	}
	s.next += s.step
	return true
}

// kindsOf are the kinds of relations that hold rows, toast tables among them if
// wanted.
func kindsOf(v pgdata.Version, toast bool) string {
	kinds := "'r'"
	if v >= 90300 {
		kinds += ", 'm'"
	}
	if toast {
		kinds += ", 't'"
	}
	return kinds
}
