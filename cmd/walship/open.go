package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"walship/archive"
	"walship/internal/config"
	"walship/internal/pgdata"
	"walship/transport"
)

// store is what both directions need.
type store interface {
	archive.PruneStore
	Replace(ctx context.Context, name string, content []byte) error
	Space(ctx context.Context) (transport.Space, error)
	Close() error
}

// checkArchive words what is wrong with the archive's URL. Whose configuration
// that is, the caller says.
func checkArchive(url string) error {
	_, err := transport.ParseURL(url)
	if err == nil {
		return nil
	}
	text := strings.TrimPrefix(err.Error(), transport.ErrConfig.Error()+": ")
	return transport.WithHint(errors.New(text), transport.Hint(err))
}

// open opens the configured archive. A connection is begun in the background;
// silence is how long the archive may say nothing.
func open(ctx context.Context, c *config.Config, silence time.Duration) (store, error) {
	return openWith(ctx, c, transport.SSH{Silence: silence})
}

// openLasting is open for a call of hours: a connection that cannot be made is
// tried anew.
func openLasting(ctx context.Context, c *config.Config) (store, error) {
	return openWith(ctx, c, transport.SSH{Silence: silencePatient, Redial: true})
}

func openWith(ctx context.Context, c *config.Config, o transport.SSH) (store, error) {
	if err := c.RequireArchive(); err != nil {
		return nil, err
	}
	u, err := transport.ParseURL(c.Archive)
	if err != nil {
		return nil, err
	}
	d := map[string]transport.Durability{"full": transport.Full, "file": transport.FileOnly, "none": transport.None}[c.Durability]
	if u.Scheme == "file" {
		return transport.NewLocal(u.Path, d), nil
	}
	if c.Silence > 0 {
		o.Silence = c.Silence
	}
	// What is being tidied up may outlive the call by a moment: see Close.
	o.KeyFile, o.KnownHosts, o.AppendOnly = c.SSHKey, c.KnownHosts, c.AppendOnly
	return transport.OpenSFTP(context.WithoutCancel(ctx), u, o, d), nil
}

// How long the archive may say nothing, if the configuration does not tell. A
// standby asks again anyway, and a promotion waits for up to five answers in
// turn, up to 11 all of them as a standby: together they must stay well below
// 20 seconds.
const (
	silencePatient  = 15 * time.Second
	silenceStopping = 3 * time.Second // a stop waits for up to six pushes
	silenceStandby  = 3 * time.Second
	silenceEnding   = 2 * time.Second
)

func silenceFor(m pgdata.Mode) time.Duration {
	switch m {
	case pgdata.Standby:
		return silenceStandby
	case pgdata.Ending:
		return silenceEnding
	}
	return silencePatient
}

// dataDir opens the data directory that a WAL file belongs to: the one that was
// named, else the one that the file's absolute path lies in, else the working
// directory, as PostgreSQL has it, else the one of a relative path, else PGDATA.
// nil means that there is none.
func dataDir(named, walPath string) (*pgdata.Dir, error) {
	if named != "" {
		return pgdata.Open(named)
	}
	if filepath.IsAbs(walPath) { // pg_rewind's, wherever it was started
		if dir, ok := pgdata.FromWALPath(walPath); ok {
			return pgdata.Open(dir)
		}
	}
	d, err := pgdata.Open(".")
	if !errors.Is(err, pgdata.ErrNotDataDir) {
		return d, err
	}
	if walPath != "" {
		if dir, ok := pgdata.FromWALPath(walPath); ok {
			return pgdata.Open(dir)
		}
	}
	if dir := os.Getenv("PGDATA"); dir != "" {
		return pgdata.Open(dir)
	}
	return nil, nil
}
