package pgconf

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"walship/internal/fault"
)

// Journal remembers what has been changed, so that it can be put back. It is a
// file of its own, written before the change that it tells of: a crash in between
// leaves an entry whose change has not happened.
type Journal struct {
	Path    string  `json:"-"`
	Version int     `json:"version"` // 1
	Files   []Entry `json:"files"`
}

// Entry is one file that has been changed or made.
type Entry struct {
	Path   string `json:"path"`
	Data   string `json:"data_directory,omitempty"` // the cluster that it belongs to
	Before string `json:"before,omitempty"`         // SHA-256 of what it held first, "" if it was not there
	Saved  string `json:"saved,omitempty"`          // where that is kept
	After  string `json:"after"`                    // SHA-256 of what was last written, or was about to be
	Prior  string `json:"prior,omitempty"`          // SHA-256 of what was written before that
	Secret bool   `json:"secret,omitempty"`
}

// OpenJournal reads the journal at path; one that is not there is empty.
func OpenJournal(path string) (*Journal, error) {
	j := &Journal{Path: path, Version: 1}
	data, err := read(path)
	if err != nil || data == nil {
		return j, err
	}
	if err := json.Unmarshal(data, j); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if j.Version != 1 {
		return nil, fmt.Errorf("%s: version %d is not known", path, j.Version)
	}
	return j, nil
}

// Write notes the edit and carries it out.
func (j *Journal) Write(e Edit) error {
	if !e.Changes() {
		return nil
	}
	i := slices.IndexFunc(j.Files, func(f Entry) bool { return f.Path == e.Path })
	if i < 0 {
		f := Entry{Path: e.Path, Data: e.Data, Secret: e.Secret}
		if e.Old != nil {
			f.Before = sum(e.Old)
			if !e.Secret {
				f.Saved = SavedPath(e.Path)
				// A copy that is there from another time would be put back as if it
				// were this one.
				if kept, err := read(f.Saved); err != nil {
					return err
				} else if kept != nil && sum(kept) != f.Before {
					if err := os.Rename(f.Saved, f.Saved+".old"); err != nil {
						return err
					}
				}
			}
		}
		j.Files = append(j.Files, f)
		i = len(j.Files) - 1
	}
	j.Files[i].Prior, j.Files[i].After = j.Files[i].After, sum(e.New)
	if err := j.save(); err != nil {
		return err
	}
	fault.At("setup.noted")
	e.made = j.Files[i].Before == ""
	return e.Write()
}

func (j *Journal) save() error {
	text, err := json.MarshalIndent(j, "", "  ")
	if err != nil {
		return err
	}
	e, err := Open(j.Path, 0o600)
	if err != nil {
		return err
	}
	e.New, e.Secret, e.notes = append(text, '\n'), true, true
	if len(j.Files) == 0 {
		e.New = nil
	}
	return e.Write()
}

func sum(content []byte) string {
	if content == nil {
		return ""
	}
	h := sha256.Sum256(content)
	return hex.EncodeToString(h[:])
}

// Undo returns the edits that put back what the entries of that data directory
// tell of ("" for all). A file that has changed since is an error.
func (j *Journal) Undo(data string) ([]Edit, error) {
	var edits []Edit
	for _, f := range slices.Backward(j.Files) {
		if data != "" && f.Data != data {
			continue
		}
		e, err := Open(f.Path, 0o600)
		if err != nil {
			return nil, err
		}
		e.Secret, e.made = f.Secret, true // what is there now is not kept
		switch now := sum(e.Old); now {
		case f.Before:
			continue // nothing has happened, or it has been put back already
		case f.After, f.Prior:
		default:
			return nil, fmt.Errorf("%s: %w: setup did not write what is in it now", f.Path, ErrChanged)
		}
		e.New = nil
		if f.Before != "" {
			if f.Saved == "" {
				continue // a secret that was added to: what it held before is in it still
			}
			if e.New, err = read(f.Saved); err != nil {
				return nil, err
			}
			if sum(e.New) != f.Before {
				return nil, fmt.Errorf("%s: %w: it does not hold what was saved in it", f.Saved, ErrChanged)
			}
		}
		edits = append(edits, e)
	}
	return edits, nil
}

// Forget takes the entries of that data directory ("" for all) out of the
// journal once their edits have been carried out, and removes the saved copies.
func (j *Journal) Forget(data string) error {
	var saved []string
	j.Files = slices.DeleteFunc(j.Files, func(f Entry) bool {
		gone := data == "" || f.Data == data
		if gone && f.Saved != "" {
			saved = append(saved, f.Saved)
		}
		return gone
	})
	if err := j.save(); err != nil {
		return err
	}
	for _, s := range saved {
		if err := os.Remove(s); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}
