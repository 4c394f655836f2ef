package restore

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"walship/internal/fault"
)

// tempPrefix begins the name of a file on its way to its place. PostgreSQL 12
// and later remove what begins with "xlogtemp." after a crash; the next fetch
// removes what a dead one has left.
const tempPrefix = "xlogtemp.walship."

// Delivery is a file on its way to its place: written beside it, synced and
// renamed. Until Place nothing is seen at the path. It is used by one goroutine.
type Delivery struct {
	path string
	temp *os.File
}

// NewDelivery is a delivery to path. It touches nothing yet.
func NewDelivery(path string) *Delivery { return &Delivery{path: path} }

// Begin returns where to write the content; when it is called again, the content
// begins anew.
func (d *Delivery) Begin() (io.Writer, error) {
	f, err := d.File()
	if err != nil {
		return nil, err // not a nil *os.File
	}
	return f, nil
}

// File is Begin, with the file itself.
func (d *Delivery) File() (*os.File, error) {
	if d.temp == nil {
		folder := filepath.Dir(d.path)
		sweep(folder)
		temp, err := createTemp(folder)
		if err != nil {
			return nil, err
		}
		d.temp = temp
		fault.At("fetch.created")
		return d.temp, nil
	}
	_, err := d.temp.Seek(0, io.SeekStart)
	return d.temp, errors.Join(err, d.temp.Truncate(0))
}

// Place puts the file on stable storage and gives it its name. Its errors are
// ErrLocal.
func (d *Delivery) Place() error {
	fault.At("fetch.written")
	if err := errors.Join(d.temp.Sync(), d.temp.Close()); err != nil {
		return fmt.Errorf("%w: %w", ErrLocal, err)
	}
	fault.At("fetch.synced")
	if err := os.Rename(d.temp.Name(), d.path); err != nil {
		return fmt.Errorf("%w: %w", ErrLocal, err)
	}
	d.temp = nil
	fault.At("fetch.delivered")
	return nil
}

// Discard removes what has not been placed.
func (d *Delivery) Discard() {
	if d.temp != nil {
		_ = d.temp.Close()
		os.Remove(d.temp.Name())
		d.temp = nil
	}
}

func createTemp(folder string) (*os.File, error) {
	var random [4]byte
	rand.Read(random[:])
	name := tempPrefix + strconv.Itoa(os.Getpid()) + "." + hex.EncodeToString(random[:])
	return os.OpenFile(filepath.Join(folder, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}

// sweep removes what a fetch that was killed has left in the folder.
func sweep(folder string) {
	left, err := filepath.Glob(filepath.Join(folder, tempPrefix+"*"))
	if err != nil {
		return
	}
	for _, path := range left {
		id, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), tempPrefix), ".")
		pid, err := strconv.Atoi(id)
		if err != nil || pid <= 0 {
			continue
		}
		info, err := os.Lstat(path)
		if err != nil {
			continue
		}
		// A process of that number may be another one by now.
		gone := errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
		if gone || time.Since(info.ModTime()) > time.Hour {
			os.Remove(path)
		}
	}
}
