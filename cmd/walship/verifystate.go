package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"walship/archive"
	"walship/internal/config"
	"walship/internal/fault"
	"walship/internal/layout"
	"walship/transport"
)

// verifyState is the file that --state names. It holds of which archive and which
// command line it is, so that no other call goes on with it.
type verifyState struct {
	path  string
	saved bool
	of    verifyOf
}

// verifyOf is what has to be the same for a call to go on.
type verifyOf struct {
	Format      int       `json:"walship_verify"`
	Archive     string    `json:"archive"`
	SystemID    uint64    `json:"system_identifier,string"`
	Created     time.Time `json:"archive_created"`
	Since       string    `json:"since"`
	Sample      string    `json:"sample"`
	Seed        string    `json:"seed"`
	WALOnly     bool      `json:"wal_only"`
	BackupsOnly bool      `json:"backups_only"`
	HeaderCheck bool      `json:"header_check"`
}

type jsonState struct {
	Of       verifyOf         `json:"of"`
	Scope    archive.Scope    `json:"scope"`
	Progress archive.Progress `json:"progress"`
}

// openVerifyState reads the state file, if there is one, and lets v go on with
// it. Without --state it is nil.
func openVerifyState(x *cli.Context, conf *config.Config, s archive.Reader, v *archive.Verifier) (*verifyState, error) {
	path := x.String("state")
	if path == "" {
		return nil, nil
	}
	head, err := s.Head(x.Context, v.Cluster.IdentityFile(), layout.MaxIdentitySize)
	if err != nil {
		return nil, err
	}
	id, err := layout.ParseIdentity(head.Data, v.Cluster)
	if err != nil {
		return nil, err
	}
	t := &verifyState{path: path, of: verifyOf{Format: 1, Archive: config.MaskURL(conf.Archive), SystemID: id.SystemID, Created: id.Created.UTC(),
		Since: x.String("since"), Sample: x.String("sample"), Seed: x.String("seed"),
		WALOnly: x.Bool("wal-only"), BackupsOnly: x.Bool("backups-only"), HeaderCheck: conf.HeaderCheck}}
	v.Save = func(p *archive.Progress) error { return t.save(v.Scope, p) }
	text, err := readOwn(path)
	if errors.Is(err, fs.ErrNotExist) {
		return t, t.writable()
	}
	if errors.Is(err, errNotOurs) {
		return nil, transport.WithHint(usage("--state %s: %v", path, err), "name a file in a folder of your own: it tells verify what need not be read")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", archive.ErrLocal, err)
	}
	var before jsonState
	if err := json.Unmarshal(text, &before); err != nil {
		return nil, transport.WithHint(usage("--state %s is no state of walship verify: %v", path, err), "name another file, or remove that one to begin at the beginning")
	}
	if before.Of != t.of {
		return nil, transport.WithHint(usage("--state %s is of another archive, or of another command line", path), "name another file, or remove that one to begin at the beginning")
	}
	// Times and the seed are those of the call that began.
	v.Scope, v.Resume, t.saved = before.Scope, &before.Progress, true
	return t, nil
}

// errNotOurs is a file that another user of this machine could have written.
var errNotOurs = errors.New("another user may write to it")

// readOwn reads an ordinary file that belongs to this user or to root, and that
// others may not write to; what else it is, is errNotOurs.
func readOwn(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a named pipe does not hold it up
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o022 != 0 || ok && int(stat.Uid) != os.Geteuid() && stat.Uid != 0 {
		return nil, fmt.Errorf("%w (%v)", errNotOurs, info.Mode())
	}
	return io.ReadAll(f)
}

// writable makes sure, before hours are spent, that the file can be written.
func (t *verifyState) writable() error {
	f, err := os.CreateTemp(filepath.Dir(t.path), filepath.Base(t.path)+".*.tmp")
	if err != nil {
		return fmt.Errorf("%w: %w", archive.ErrLocal, err)
	}
	_ = f.Close()
	return os.Remove(f.Name())
}

// save replaces the file as a whole.
func (t *verifyState) save(scope archive.Scope, p *archive.Progress) error {
	text, err := json.Marshal(jsonState{t.of, scope, *p})
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(t.path), filepath.Base(t.path)+".*.tmp")
	if err == nil {
		_, err = f.Write(append(text, '\n'))
		err = errors.Join(err, f.Close())
		if err == nil {
			err = os.Rename(f.Name(), t.path)
		}
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", archive.ErrLocal, err)
	}
	t.saved = true
	fault.At("verify.saved")
	return nil
}

// remove removes the file of a call that has come to its end.
func (t *verifyState) remove() error {
	if t == nil || !t.saved {
		return nil
	}
	if err := os.Remove(t.path); err != nil {
		return fmt.Errorf("%w: %w", archive.ErrLocal, err)
	}
	return nil
}
