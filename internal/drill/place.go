// Package drill is what a rehearsed recovery needs around the restore itself: a
// throwaway place, which also a killed drill leaves to the next one to clear,
// and settings with which the copy of a production server does nothing but
// recover and be looked at: no TCP, no archiving, no workers, no subscriptions.
package drill

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"walship/internal/pgrun"
)

// Place is a folder that is thrown away with all that is in it.
//
//	walship-drill-1f0c…/
//	    drill.json     marker, locked for as long as the drill lives
//	    data/          the restored data directory
//	    tablespaces/
//	    log            the server's
//	    s/             its socket; in /tmp if this path would be too long
type Place struct {
	Path    string
	Sockets string // folder of the socket, for the owner alone

	marker *os.File
}

// Data, Tablespaces and Log are paths in the place.
func (p *Place) Data() string        { return filepath.Join(p.Path, "data") }
func (p *Place) Tablespaces() string { return filepath.Join(p.Path, "tablespaces") }
func (p *Place) Log() string         { return filepath.Join(p.Path, "log") }

const (
	prefix     = "walship-drill-"
	markerFile = "drill.json"
	socketTail = "-s"
)

// sockets is where the socket of a place goes whose own path is too long.
const sockets = "/tmp"

// note is what the marker tells people; whether its drill lives, its lock says.
type note struct {
	PID   int       `json:"pid"`
	Began time.Time `json:"began"`
	Note  string    `json:"note"`
}

// NewPlace makes a place in the folder parent that belongs to the owner.
func NewPlace(parent string, o pgrun.Owner) (*Place, error) {
	parent, err := filepath.Abs(parent)
	if err != nil {
		return nil, err
	}
	for try := 0; ; try++ {
		p, err := newPlace(filepath.Join(parent, fmt.Sprintf("%s%016x", prefix, rand.Uint64())), o)
		// Another drill that clears may have taken the empty folder away.
		if err == nil || try == 10 || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.EWOULDBLOCK) {
			return p, err
		}
		if _, err := os.Stat(parent); err != nil {
			return nil, err
		}
	}
}

func newPlace(path string, o pgrun.Owner) (*Place, error) {
	if err := os.Mkdir(path, 0o700); err != nil {
		return nil, err
	}
	p := &Place{Path: path, Sockets: socketFolder(path)}
	err := p.furnish(o)
	if err != nil {
		return nil, errors.Join(err, p.Remove())
	}
	return p, nil
}

func (p *Place) furnish(o pgrun.Owner) error {
	f, err := os.OpenFile(filepath.Join(p.Path, markerFile), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	p.marker = f
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return err
	}
	text, err := json.Marshal(note{os.Getpid(), time.Now().UTC().Truncate(time.Second), "of a walship restore --check; may be removed when that has ended"})
	if err != nil {
		return err
	}
	if _, err := f.Write(append(text, '\n')); err != nil {
		return err
	}
	if _, err := os.Stat(f.Name()); err != nil {
		return err // it was taken away before it was locked
	}
	if err := os.Mkdir(p.Sockets, 0o700); err != nil {
		return err
	}
	for _, dir := range []string{p.Data(), p.Tablespaces()} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	for _, path := range []string{p.Data(), p.Tablespaces(), p.Sockets, p.Path} {
		if err := o.Give(path); err != nil {
			return err
		}
	}
	return nil
}

func socketFolder(path string) string {
	if own := filepath.Join(path, "s"); pgrun.FitForSocket(own) {
		return own
	}
	return filepath.Join(sockets, filepath.Base(path)+socketTail)
}

// Remove takes the place away with all that is in it. The server in it must have
// ended.
func (p *Place) Remove() error {
	// The marker goes last: what could not be removed is found again.
	entries, err := os.ReadDir(p.Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	errs := []error{os.RemoveAll(p.Sockets)}
	for _, e := range entries {
		if e.Name() != markerFile {
			errs = append(errs, os.RemoveAll(filepath.Join(p.Path, e.Name())))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	err = os.RemoveAll(p.Path)
	if p.marker != nil {
		err = errors.Join(err, p.marker.Close())
		p.marker = nil
	}
	return err
}

// Clear takes away what drills have left in the folder parent that were killed,
// and ends their servers where these still run. It returns their paths. The
// drills that live, and folders of other users, are left alone.
func Clear(parent string, o pgrun.Owner) ([]string, error) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return nil, err
	}
	var cleared []string
	var errs []error
	for _, e := range entries {
		path := filepath.Join(parent, e.Name())
		if !e.IsDir() || !strings.HasPrefix(e.Name(), prefix) || strings.HasSuffix(e.Name(), socketTail) || !mine(path, o) {
			continue
		}
		done, err := clearOne(path)
		if done {
			cleared = append(cleared, path)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s, left by a drill that was killed: %w", path, err))
		}
	}
	return cleared, errors.Join(errs...)
}

// mine reports whether the folder belongs to this process's user or the owner.
func mine(path string, o pgrun.Owner) bool {
	info, err := os.Lstat(path)
	if err != nil {
		return false
	}
	sys, ok := info.Sys().(*syscall.Stat_t)
	return ok && (int(sys.Uid) == os.Geteuid() || int(sys.Uid) == o.UID)
}

func clearOne(path string) (bool, error) {
	f, err := os.OpenFile(filepath.Join(path, markerFile), os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		// Killed before it could mark it; or made this very moment, and then its
		// maker finds out and makes another one.
		return os.Remove(path) == nil, nil
	}
	if err != nil {
		return false, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return false, f.Close() // it lives
	}
	p := &Place{Path: path, Sockets: socketFolder(path), marker: f}
	if err := pgrun.StopStray(p.Data()); err != nil {
		return false, errors.Join(err, f.Close())
	}
	if err := p.Remove(); err != nil {
		return false, errors.Join(err, f.Close())
	}
	return true, nil
}
