package testpg

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// initdb makes the data directory as the server's initdb does with these
// arguments. What initdb makes takes a second of processor time, so it is kept in
// .cache/initdb of the repository, and a copy is a cluster of its own once it has
// a system identifier of its own.
func (c *Cluster) initdb(args []string) error {
	make := func(dir string) error {
		_, err := c.Run("initdb", append([]string{"-D", dir}, args...)...)
		return err
	}
	root, ok := repository()
	if !ok {
		return make(c.Data)
	}
	program, err := os.Stat(filepath.Join(c.Bin, "initdb"))
	if err != nil {
		return err
	}
	sum := sha256.Sum256(fmt.Append(nil, c.Bin, program.ModTime().UnixNano(), strings.Join(args, "\x00")))
	kept := filepath.Join(root, ".cache", "initdb", hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(kept); err != nil {
		if err := make(c.Data); err != nil {
			return err
		}
		if err := keep(c.Data, kept); err != nil {
			return err
		}
	} else if err := copyTree(kept, c.Data); err != nil {
		return err
	}
	if err := renumber(c.Data); err != nil {
		return err
	}
	return Own(c.Data)
}

// keep copies a new data directory to its place among the kept ones. Another
// process may have been quicker.
func keep(data, kept string) error {
	if err := os.MkdirAll(filepath.Dir(kept), 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp(filepath.Dir(kept), "new")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := copyTree(data, filepath.Join(work, "data")); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(work, "data"), kept); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

// renumber gives a data directory in which no server has run yet a system
// identifier of its own: in pg_control, whose checksum covers it, and in the long
// header of each WAL segment.
func renumber(data string) error {
	id := uint64(time.Now().Unix())<<32 | uint64(binary.LittleEndian.Uint32(random(4)))
	path := filepath.Join(data, "global", "pg_control")
	control, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	at, err := checksumAt(control)
	if err != nil {
		return err
	}
	binary.LittleEndian.PutUint64(control, id)
	binary.LittleEndian.PutUint32(control[at:], crc32.Checksum(control[:at], castagnoli))
	if err := os.WriteFile(path, control, 0o600); err != nil {
		return err
	}
	segments, err := filepath.Glob(filepath.Join(data, "pg_wal", "0*"))
	if err != nil || len(segments) == 0 {
		return fmt.Errorf("no WAL in %s: %w", data, err)
	}
	for _, segment := range segments {
		f, err := os.OpenFile(segment, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		const longHeader = 24 // behind the short one
		_, err = f.WriteAt(binary.LittleEndian.AppendUint64(nil, id), longHeader)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksumAt is where pg_control's checksum stands, behind all that it covers:
// each version has a place of its own for it.
func checksumAt(control []byte) (int, error) {
	for at := 200; at+4 <= min(len(control), 512); at += 4 {
		if crc32.Checksum(control[:at], castagnoli) == binary.LittleEndian.Uint32(control[at:]) {
			return at, nil
		}
	}
	return 0, errors.New("no checksum found in pg_control")
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return b
}
