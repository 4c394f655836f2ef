package restore

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"walship/transport"
)

// markFile lies in each folder while it is being filled, and says for what: a
// folder that carries it is not whole, and may be cleared away by whoever
// restores to the same place again.
const markFile = "walship-restore.json"

// mark is the file's content.
type mark struct {
	Note      string `json:"note"`
	Directory string `json:"data_directory"`
	Cluster   uint64 `json:"system_identifier,string"`
	Backup    string `json:"backup"`
	Target    string `json:"target"`
	Timeline  uint32 `json:"timeline"`
	Settings  string `json:"settings"` // a digest of all other options
}

func readMark(dir string) (*mark, error) {
	text, err := os.ReadFile(filepath.Join(dir, markFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, locally("%w", err)
	}
	m := new(mark)
	if err := json.Unmarshal(text, m); err != nil || m.Directory == "" {
		// It was cut short when it was written, before anything else was; the
		// path beside it cannot be checked then, so nothing is cleared away.
		return nil, nil
	}
	return m, nil
}

// put writes the mark into the folder, durably.
func (m mark) put(root *os.Root) error {
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	const next = markFile + ".tmp"
	f, err := root.OpenFile(next, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := root.Rename(next, markFile); err != nil {
		return err
	}
	return syncFolder(root, ".")
}

// lock keeps a second restore out of the folder for as long as the file is open.
func lock(root *os.Root) (*os.File, error) {
	f, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, transport.WithHint(locally("%s is being filled by another restore", root.Name()), "wait for it, or end it")
	}
	return f, nil
}

// syncFolder puts a folder's entries on stable storage.
func syncFolder(root *os.Root, name string) error {
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// syncAbove puts the folder's own entry on stable storage.
func syncAbove(dir string) error {
	f, err := os.Open(filepath.Dir(dir))
	if errors.Is(err, fs.ErrPermission) {
		return nil // one that may be passed through and not looked at
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
