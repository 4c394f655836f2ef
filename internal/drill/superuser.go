package drill

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"syscall"
	"time"

	"walship/internal/lazyre"
	"walship/internal/pgcheck"
	"walship/internal/pgrun"
	"walship/internal/pgserver"
)

// Superuser returns the first of these roles that is a superuser of the server
// in the place, which must take connections; "" if none is.
func (p *Place) Superuser(ctx context.Context, roles ...string) (string, error) {
	for _, role := range roles {
		if role == "" {
			continue
		}
		for _, database := range []string{"postgres", "template1"} {
			c, err := pgserver.Connect(ctx, pgserver.Params{ConnString: pgcheck.ConnString(p.Sockets, Port, role, database)})
			if err != nil {
				if ctx.Err() != nil {
					return "", context.Cause(ctx)
				}
				continue // there is no such role, or no such database
			}
			is, err := c.Value(ctx, "SHOW is_superuser")
			_ = c.Close() // it has said all it had to say
			if err == nil && is == "on" {
				return role, nil
			}
		}
	}
	return "", nil
}

// roleLine is how a server in single-user mode prints the column.
var roleLine = lazyre.MustCompile(`rolname = "(.*)"\s*\(typeid`)

// FirstSuperuser returns the superuser that initdb made, whatever its name. The
// server in the place must have been stopped: it is asked in single-user mode,
// which needs no role.
func (p *Place) FirstSuperuser(ctx context.Context, in pgrun.Install, o pgrun.Owner) (string, error) {
	cmd := o.Command(in.Bin+"/postgres", "--single", "-D", p.Data(), "template1")
	cmd.Stdin = strings.NewReader("SELECT rolname FROM pg_authid WHERE oid = 10\n")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return "", err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		m := roleLine().FindStringSubmatch(out.String())
		if err != nil || m == nil {
			return "", fmt.Errorf("the superuser's name: PostgreSQL in single-user mode: %v: %s", err, strings.TrimSpace(out.String()))
		}
		return m[1], nil
	case <-ctx.Done():
	case <-time.After(5 * time.Minute):
	}
	_ = syscall.Kill(cmd.Process.Pid, syscall.SIGQUIT) // it is not reaped yet
	err := <-done
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	return "", fmt.Errorf("the superuser's name: PostgreSQL in single-user mode does not end: %v", err)
}
