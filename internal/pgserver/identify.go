package pgserver

import (
	"context"
	"strconv"

	"walship/walname"
)

// Identity is what a server says of itself over the replication protocol.
type Identity struct {
	SystemID uint64
	Timeline walname.Timeline
	LSN      walname.LSN // the end of its WAL on stable storage
}

// Identify logs in for replication, as a standby does, asks who the server is,
// and ends the connection. The error wraps ErrServer, or is ctx's.
func Identify(ctx context.Context, p Params) (Identity, error) {
	config, err := p.replicationConfig()
	if err != nil {
		return Identity{}, err
	}
	to := targetOf(config, true)
	pg, err := dial(ctx, config, to)
	if err != nil {
		return Identity{}, err
	}
	defer func() { _ = pg.Close(context.WithoutCancel(ctx)) }()
	results, err := pg.Exec(ctx, "IDENTIFY_SYSTEM").ReadAll()
	if err != nil {
		return Identity{}, to.explain(ctx, err)
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) < 3 {
		return Identity{}, to.fail("its answer to IDENTIFY_SYSTEM has another form than expected")
	}
	row := results[0].Rows[0]
	var id Identity
	if id.SystemID, err = strconv.ParseUint(string(row[0]), 10, 64); err != nil {
		return Identity{}, to.fail("its system identifier is %q", row[0])
	}
	tl, err := strconv.ParseUint(string(row[1]), 10, 32)
	if err != nil {
		return Identity{}, to.fail("its timeline is %q", row[1])
	}
	id.Timeline = walname.Timeline(tl)
	if id.LSN, err = walname.ParseLSN(string(row[2])); err != nil {
		return Identity{}, to.fail("the end of its WAL is %q", row[2])
	}
	return id, nil
}

// Fork asks the server, over the replication protocol, where its timeline tl has
// left the older timeline from: what was written on from after that is not on
// the server. The error wraps ErrServer, or is ctx's; it is one too if tl does
// not descend from from. It takes 9.3.
func Fork(ctx context.Context, p Params, tl, from walname.Timeline) (walname.LSN, error) {
	config, err := p.replicationConfig()
	if err != nil {
		return 0, err
	}
	to := targetOf(config, true)
	pg, err := dial(ctx, config, to)
	if err != nil {
		return 0, err
	}
	defer func() { _ = pg.Close(context.WithoutCancel(ctx)) }()
	results, err := pg.Exec(ctx, "TIMELINE_HISTORY "+strconv.FormatUint(uint64(tl), 10)).ReadAll()
	if err != nil {
		return 0, to.explain(ctx, err)
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) < 2 {
		return 0, to.fail("its answer to TIMELINE_HISTORY has another form than expected")
	}
	history, err := walname.ParseHistory(tl, results[0].Rows[0][1])
	if err != nil {
		return 0, to.fail("the history of its timeline %d: %v", tl, err)
	}
	var fork walname.LSN
	found := false
	for _, a := range history.Ancestors { // a later one may have forked earlier
		if found {
			fork = min(fork, a.Switch)
		}
		if a.Timeline == from {
			fork, found = a.Switch, true
		}
	}
	if found {
		return fork, nil
	}
	return 0, to.fail("its timeline %d does not descend from timeline %d", tl, from)
}
