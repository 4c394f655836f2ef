package restore

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"walship/internal/async"
	"walship/internal/basebackup"
	"walship/internal/pgdata"
	"walship/transport"
	"walship/walname"
)

// Plan chooses the backup and the timeline, and checks what can be checked before
// a byte is written: that the archive is the cluster's, that all parts of the
// backup are there with their sizes, that the WAL up to the target is there, and
// that the new folders are free, empty and large enough. It writes nothing.
func (r *Restorer) Plan(ctx context.Context, o Options) (*Plan, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	cluster, id, err := r.ownCluster(ctx, o.Cluster)
	if err != nil {
		return nil, err
	}
	looking := async.Go(func() (*seen, error) { return r.look(ctx, cluster) })
	all, err := r.backups(ctx, cluster, id, o.Backup)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 && o.Backup != "" {
		return nil, transport.WithHint(fmt.Errorf("%w: it has no backup %s", ErrNoWay, o.Backup), "without --backup the newest one that suits is taken")
	}
	if len(all) == 0 {
		return nil, transport.WithHint(fmt.Errorf("%w: cluster %d has no base backup in it", ErrNoWay, cluster.SystemID), "walship backup takes one")
	}
	p := &Plan{Options: o, Cluster: cluster}
	if p.Version, err = pgdata.ParseVersion(all[0].PostgreSQL); err != nil {
		return nil, fmt.Errorf("backup %s: %w: %w", all[0].Backup, basebackup.ErrDamaged, err)
	}
	p.Geometry = walname.Geometry{SegmentSize: id.SegmentSize, SkipFF: p.Version < 90300}
	archived, err := looking.Wait()
	if err != nil {
		return nil, err
	}
	wal, lines := archived.wal, archived.lines
	wal.geometry, lines.geometry = p.Geometry, p.Geometry
	for _, m := range all {
		lines.add(m.Timeline)
	}
	c := &choice{Plan: p, wal: wal, lines: lines, backups: all}
	if err := c.choose(ctx); err != nil {
		return nil, err
	}
	if err := p.suits(); err != nil {
		return nil, err
	}
	if err := p.place(); err != nil {
		return nil, err
	}
	if err := p.vacant(); err != nil {
		return nil, err
	}
	surveyed := async.Go(func() (struct{}, error) { return struct{}{}, r.survey(ctx, p) })
	short := c.checkWAL(ctx)
	if _, err := surveyed.Wait(); err != nil {
		return nil, err
	}
	if err := p.roomy(); err != nil {
		return nil, err
	}
	if short != nil {
		return nil, short
	}
	return p, nil
}

// check finds what is wrong with the options on their own.
func (o Options) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrOptions, fmt.Sprintf(format, args...))
	}
	if !filepath.IsAbs(o.Dir) || filepath.Clean(o.Dir) != o.Dir || o.Dir == "/" {
		return bad("the new data directory %q is no absolute path of a folder", o.Dir)
	}
	if strings.ContainsAny(o.Dir+o.RestoreCommand, "\n\r\x00") {
		return bad("a path holds a line end")
	}
	if o.Backup != "" {
		if _, err := basebackup.ParseID(o.Backup); err != nil {
			return fmt.Errorf("%w: %w", ErrOptions, err)
		}
	}
	if o.MapInto != "" && !filepath.IsAbs(o.MapInto) {
		return bad("%q is no absolute path", o.MapInto)
	}
	switch o.Action {
	case Default, Pause, Promote, Shutdown:
	default:
		return bad("no action is called %q (pause, promote, shutdown)", string(o.Action))
	}
	switch {
	case o.Target.Kind == Latest && (o.Action == Pause || o.Action == Shutdown):
		return bad("at the end of the WAL the server always opens; %s needs a target before it", o.Action)
	case o.Standby && o.Target.Kind != Latest:
		return bad("a standby goes on recovering and has no target")
	case o.Standby && o.Action != Default:
		return bad("a standby goes on recovering and does nothing at a target")
	}
	return o.Target.check()
}

// suits compares the options with the server's version.
func (p *Plan) suits() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: PostgreSQL %s %s", ErrOptions, p.Version, fmt.Sprintf(format, args...))
	}
	switch k := p.Target.Kind; {
	case p.Version < 90100 && k == AtName:
		return bad("knows no restore points (9.1)")
	case p.Version < 90400 && k == Immediate:
		return bad("cannot stop as soon as it is consistent (9.4); a time can be given instead: --time %q", p.Manifest.End.Format(timeForm))
	case p.Version < 100000 && k == AtLSN:
		return bad("cannot stop at an LSN (10)")
	case p.Version < 90100 && p.Action == Pause:
		return bad("cannot pause at a target (9.1)")
	case p.Version < 90500 && p.Action == Shutdown:
		return bad("cannot shut down at a target (9.5)")
	case k == AtXID && p.Target.XID > 1<<32-1 && p.Version < 100000:
		return bad("takes the lower 32 bits of a transaction's number: %d", uint32(p.Target.XID))
	}
	// The path names that %p stands for are short; the command's own limit is
	// that of a path, up to 15.
	if n := len(p.RestoreCommand) + len("RECOVERYHISTORY") + len("pg_wal/") + 24; p.Version < 160000 && n >= 1024 {
		return bad("takes at most 1,023 bytes of restore_command, this one may have %d", n)
	}
	return nil
}

func (p *Plan) note(format string, args ...any) {
	p.Notes = append(p.Notes, fmt.Sprintf(format, args...))
}
