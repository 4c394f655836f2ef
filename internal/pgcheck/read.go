package pgcheck

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"walship/internal/pgserver"
)

// read reads every row of the tables. A table that cannot be read to its end is
// a problem, and the rest goes on.
func (o Options) read(ctx context.Context, databases []string, result *Result) error {
	s := newSample(o.Share, o.Seed)
	for _, database := range databases {
		if err := o.readDatabase(ctx, database, s, result); err != nil {
			return err
		}
	}
	return nil
}

func (o Options) readDatabase(ctx context.Context, database string, s *sample, result *Result) error {
	list, err := o.connect(ctx, database)
	if err != nil {
		// A database that cannot be opened, for its locale is missing here or for
		// its catalogue is damaged, is what the check is there to find.
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		result.Problems++
		o.found(fmt.Sprintf("database %s: %v", database, err))
		return nil
	}
	defer list.Close()
	var mu sync.Mutex
	work := make(chan relation)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(work)
		return o.relations(ctx, list, s, true, func(r relation) error {
			select {
			case work <- r:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
	})
	for range max(1, o.Jobs) {
		g.Go(func() error {
			var c *pgserver.Conn
			defer func() {
				if c != nil {
					_ = c.Close() // it has said all it had to say
				}
			}()
			for r := range work {
				if c == nil || !c.Alive() {
					var err error
					if c, err = o.reconnect(ctx, database); err != nil {
						return err
					}
				}
				rows, err := c.CopyOut(ctx, io.Discard, copyOf(r))
				if err != nil && ctx.Err() != nil {
					return context.Cause(ctx)
				}
				mu.Lock()
				result.Relations++
				result.Rows += rows
				result.Bytes += r.bytes
				if err != nil {
					result.Problems++
					o.found(fmt.Sprintf("table %s.%s.%s: %v", database, r.schema, r.name, err))
				}
				if o.Progress != nil {
					o.Progress(r.bytes)
				}
				mu.Unlock()
			}
			return nil
		})
	}
	return g.Wait()
}

// copyOf reads a relation as it is stored: of a table its own rows, with all
// that lies out of line. A toast table and a materialized view need a query.
func copyOf(r relation) string {
	if r.kind == "r" {
		return "COPY " + r.quoted() + " TO STDOUT"
	}
	return "COPY (SELECT * FROM " + r.quoted() + ") TO STDOUT"
}

// reconnect waits for a server that damage has brought down, and that starts
// again by itself.
func (o Options) reconnect(ctx context.Context, database string) (*pgserver.Conn, error) {
	deadline := time.Now().Add(time.Minute)
	for {
		c, err := o.connect(ctx, database)
		if err == nil {
			if _, err = c.Query(ctx, "SET bytea_output = 'hex'"); err == nil { // the shortest form
				return c, nil
			}
			_ = c.Close() // what was wrong is known
		}
		if time.Now().After(deadline) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (o Options) found(problem string) {
	if o.Found != nil {
		o.Found(problem)
	}
}
