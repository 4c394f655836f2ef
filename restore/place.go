package restore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"walship/internal/basebackup"
	"walship/transport"
)

// place decides where each tablespace goes.
func (p *Plan) place() error {
	used := make(map[string]bool)
	for _, t := range p.Manifest.Tablespaces {
		at := Place{OID: t.OID, From: t.Location}
		switch to, ok := p.mapped(t.Location); {
		case t.OID == 0:
			return fmt.Errorf("backup %s: %w: a tablespace without an OID", p.Manifest.Backup, basebackup.ErrDamaged)
		case t.Location == filepath.Join("pg_tblspc", strconv.FormatUint(uint64(t.OID), 10)):
			// One that lies inside the data directory, from 15 on.
		case !filepath.IsAbs(t.Location) || strings.ContainsAny(t.Location, "\x00"):
			return fmt.Errorf("backup %s: %w: tablespace %d lies at %q", p.Manifest.Backup, basebackup.ErrDamaged, t.OID, t.Location)
		case ok:
			at.To, used[filepath.Clean(t.Location)] = to, true
		case p.MapInto != "":
			at.To = filepath.Join(p.MapInto, strconv.FormatUint(uint64(t.OID), 10))
		default:
			at.To = filepath.Clean(t.Location)
		}
		p.Tablespaces = append(p.Tablespaces, at)
	}
	for _, m := range p.Mapping {
		if !used[m.Old] {
			return fmt.Errorf("%w: the backup has no tablespace at %s%s", ErrOptions, m.Old, p.locations())
		}
	}
	roots := p.roots()
	for i, a := range roots {
		for _, b := range roots[:i] {
			if within(a, b) || within(b, a) {
				return transport.WithHint(fmt.Errorf("%w: %s and %s lie in each other", ErrOptions, b, a), "--tablespace-mapping OLD=NEW says where a tablespace goes")
			}
		}
	}
	return nil
}

func (p *Plan) mapped(location string) (string, bool) {
	for _, m := range p.Mapping {
		if m.Old == filepath.Clean(location) {
			return m.New, true
		}
	}
	return "", false
}

func (p *Plan) locations() string {
	var all []string
	for _, t := range p.Manifest.Tablespaces {
		all = append(all, t.Location)
	}
	if len(all) == 0 {
		return ": it has no tablespaces"
	}
	return "; it has " + joinSome(all)
}

// roots are the folders that are going to be filled: the data directory, then
// the tablespaces outside of it.
func (p *Plan) roots() []string {
	all := []string{p.Dir}
	for _, t := range p.Tablespaces {
		if t.To != "" {
			all = append(all, t.To)
		}
	}
	return all
}

// within reports whether path is dir, or lies in it.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// vacant checks that each folder is absent, or empty, or holds what an earlier
// restore to the same place has left half done.
func (p *Plan) vacant() error {
	main, err := state(p.Dir)
	if err != nil {
		return err
	}
	switch {
	case main.full && main.mark == nil:
		return transport.WithHint(locally("%s is not empty", p.Dir), "give a folder that is empty or does not exist yet: nothing is ever overwritten")
	case main.mark != nil && main.mark.Directory != p.Dir:
		return locally("%s holds a half-done restore that belongs to %s", p.Dir, main.mark.Directory)
	}
	if main.mark != nil && main.control {
		return nil // whole but for its marks, of which those of tablespaces go first
	}
	for _, t := range p.Tablespaces {
		if t.To == "" {
			continue
		}
		s, err := state(t.To)
		if err != nil {
			return err
		}
		if s.full && (s.mark == nil || s.mark.Directory != p.Dir) {
			return transport.WithHint(locally("%s, for tablespace %d, is not empty", t.To, t.OID),
				fmt.Sprintf("--tablespace-mapping %s=NEW puts it elsewhere", t.From))
		}
	}
	return nil
}

// folderState is what is in a folder that is to be filled.
type folderState struct {
	full    bool // there is something in it
	control bool // a pg_control among it
	mark    *mark
}

func state(dir string) (folderState, error) {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(dir); err == nil {
			return folderState{}, locally("%s is a symbolic link that leads nowhere", dir)
		}
		return folderState{}, nil
	}
	if err != nil {
		return folderState{}, local(err)
	}
	if !info.IsDir() {
		return folderState{}, locally("%s is no folder", dir)
	}
	var s folderState
	f, err := os.Open(dir)
	if err != nil {
		return s, local(err)
	}
	defer f.Close()
	names, err := f.Readdirnames(2)
	if err != nil && err != io.EOF {
		return s, local(err)
	}
	// A kill may have left the mark half written, before all else.
	s.full = len(names) > 0 && !(len(names) == 1 && names[0] == markFile+".tmp")
	if !s.full {
		return s, nil
	}
	_, err = os.Lstat(filepath.Join(dir, controlFile))
	s.control = err == nil
	s.mark, err = readMark(dir)
	return s, err
}

// roomy checks that what is going to be written fits on the disks.
func (p *Plan) roomy() error {
	type disk struct {
		free, need int64
		path       string
	}
	disks := make(map[uint64]*disk)
	rest := p.Manifest.Size
	add := func(path string, need int64) {
		id, free, ok := diskOf(path)
		if !ok {
			return
		}
		if disks[id] == nil {
			disks[id] = &disk{free: free, path: path}
		}
		disks[id].need += need
		disks[id].free += halfDone(path)
	}
	for i, t := range p.Tablespaces {
		if t.To == "" {
			continue
		}
		add(t.To, p.Manifest.Tablespaces[i].Size)
		rest -= p.Manifest.Tablespaces[i].Size
	}
	add(p.Dir, max(rest, 0))
	for _, d := range disks {
		if d.need > d.free {
			return transport.WithHint(locally("no space for it at %s: %d MB are needed, %d MB are free", d.path, d.need>>20, d.free>>20),
				"recovery needs room for WAL besides")
		}
	}
	return nil
}

// halfDone is about what an unfinished restore takes in the folder, which goes
// before another one begins. In bytes.
func halfDone(dir string) (size int64) {
	if s, err := state(dir); err != nil || s.mark == nil {
		return 0
	}
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if info, err := e.Info(); err == nil {
				size += info.Size()
			}
		}
		return nil // what cannot be seen counts for nothing
	})
	return size
}
