package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"walship/transport"
)

// Memory is a Store in memory that passes the suite and can be told to fail (see
// Hook). It is safe for concurrent use.
type Memory struct {
	mu    sync.Mutex
	nodes map[string]*node // by name; "." is the root
	steps int
	hook  func(Step) Fault
	temps int
}

type node struct {
	dir  bool
	data []byte // never changed in place
	mod  time.Time
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{nodes: map[string]*node{".": {dir: true, mod: time.Now()}}}
}

// Close does nothing and returns nil.
func (m *Memory) Close() error { return nil }

// Plant makes the file name, with its folders, in place of what is there and
// without a step.
func (m *Memory) Plant(name string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.makeFolder(path.Dir(name), ""); err != nil {
		return err
	}
	m.nodes[name] = &node{data: slices.Clone(data), mod: time.Now()}
	return nil
}

// Bytes returns the content of the file name, without a step, and whether it
// exists.
func (m *Memory) Bytes(name string) ([]byte, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.nodes[name]
	if n == nil || n.dir {
		return nil, false
	}
	return slices.Clone(n.data), true
}

// Names returns the names of all files in order, temporary ones included,
// without a step.
func (m *Memory) Names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for name, n := range m.nodes {
		if !n.dir {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Age sets the modification time of name to d ago.
func (m *Memory) Age(name string, d time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("age", name)
	if err == nil {
		n.mod = time.Now().Add(-d)
	}
	return err
}

// Open is one step, "open", and "read" is another with the first Read.
func (m *Memory) Open(ctx context.Context, name string) (transport.File, error) {
	var data []byte
	err := m.file(ctx, "open", name, func(n *node) { data = n.data })
	if err != nil {
		return nil, err
	}
	return &memoryFile{ctx: ctx, store: m, name: name, size: int64(len(data)), rest: bytes.NewReader(data)}, nil
}

// Head is one step, "head".
func (m *Memory) Head(ctx context.Context, name string, n int) (transport.Head, error) {
	var h transport.Head
	err := m.file(ctx, "head", name, func(file *node) {
		h = transport.Head{Size: int64(len(file.data)), Data: slices.Clone(file.data[:max(0, min(n, len(file.data)))])}
	})
	return h, err
}

// Sync is one step, "sync".
func (m *Memory) Sync(ctx context.Context, name string) error {
	return m.file(ctx, "sync", name, func(*node) {})
}

// Replace is one step, "replace".
func (m *Memory) Replace(ctx context.Context, name string, content []byte) error {
	return m.file(ctx, "replace", name, func(*node) {
		m.nodes[name] = &node{data: slices.Clone(content), mod: time.Now()}
	})
}

// Remove is one step, "remove".
func (m *Memory) Remove(ctx context.Context, name string) error {
	return m.file(ctx, "remove", name, func(*node) { delete(m.nodes, name) })
}

// RemoveFolder is one step, "rmdir".
func (m *Memory) RemoveFolder(ctx context.Context, dir string) error {
	if err := validFile("rmdir", dir); err != nil {
		return err
	}
	return m.step(ctx, "rmdir", dir, func() error {
		n, err := m.find("rmdir", dir)
		if err == nil && !n.dir {
			err = wrong("rmdir", dir, syscall.ENOTDIR)
		}
		for name := range m.nodes {
			if err == nil && path.Dir(name) == dir {
				err = wrong("rmdir", dir, fs.ErrExist)
			}
		}
		if err == nil {
			delete(m.nodes, dir)
		}
		return err
	})
}

// Now is one step, "now". Its clock is this machine's.
func (m *Memory) Now(ctx context.Context, dir string) (now time.Time, err error) {
	if err := validFolder("time", dir); err != nil {
		return now, err
	}
	err = m.step(ctx, "now", dir, func() error {
		n, err := m.find("time", dir)
		if err == nil && !n.dir {
			err = wrong("time", dir, syscall.ENOTDIR)
		}
		return err
	})
	if err != nil {
		return time.Time{}, err
	}
	return time.Now(), nil
}

// Move is one step, "move".
func (m *Memory) Move(ctx context.Context, from, to string) error {
	if err := validFile("move", to); err != nil {
		return err
	}
	var exists error
	err := m.file(ctx, "move", from, func(n *node) {
		if m.nodes[to] != nil {
			exists = wrong("move", to, fs.ErrExist)
		} else if exists = m.makeFolder(path.Dir(to), top(to)); exists == nil {
			delete(m.nodes, from)
			m.nodes[to] = n
		}
	})
	return errors.Join(err, exists)
}

// Mkdir is one step, "mkdir".
func (m *Memory) Mkdir(ctx context.Context, dir string) error {
	if err := validFolder("mkdir", dir); err != nil {
		return err
	}
	return m.step(ctx, "mkdir", dir, func() error {
		if n := m.nodes[dir]; n != nil && !n.dir {
			return wrong("mkdir", dir, fs.ErrExist)
		}
		return m.makeFolder(dir, "")
	})
}

// List is one step, "list". If it fails although applied, fn has been told of
// the first half of the folder.
func (m *Memory) List(ctx context.Context, dir string, fn func(transport.FileInfo) error) error {
	if err := validFolder("list", dir); err != nil {
		return err
	}
	var infos []transport.FileInfo
	failed := m.step(ctx, "list", dir, func() error {
		n, err := m.find("list", dir)
		if err == nil && !n.dir {
			err = wrong("list", dir, syscall.ENOTDIR)
		}
		for name, n := range m.nodes {
			if err == nil && name != "." && path.Dir(name) == dir {
				infos = append(infos, transport.FileInfo{Name: path.Base(name), Size: int64(len(n.data)), ModTime: n.mod, IsDir: n.dir})
			}
		}
		return err
	})
	if failed != nil {
		infos = infos[:len(infos)/2]
	}
	for _, info := range infos { // without the lock: fn may use the store
		if err := fn(info); err == fs.SkipAll {
			return nil
		} else if err != nil {
			return err
		}
	}
	return failed
}

var tempPattern = regexp.MustCompile(`^.+\.[0-9a-f]{16}\.tmp$`)

// Sweep is one step, "sweep".
func (m *Memory) Sweep(ctx context.Context, dir string, age time.Duration) (int, error) {
	if err := validFolder("sweep", dir); err != nil {
		return 0, err
	}
	swept := 0
	err := m.step(ctx, "sweep", dir, func() error {
		if _, err := m.find("sweep", dir); err != nil {
			return err
		}
		for name, n := range m.nodes {
			if !n.dir && path.Dir(name) == dir && tempPattern.MatchString(path.Base(name)) && time.Since(n.mod) > age {
				delete(m.nodes, name)
				swept++
			}
		}
		return nil
	})
	return swept, err
}

// file runs a step that has to do with the existing file name.
func (m *Memory) file(ctx context.Context, op, name string, apply func(*node)) error {
	if err := validFile(op, name); err != nil {
		return err
	}
	return m.step(ctx, op, name, func() error {
		n, err := m.find(op, name)
		if err == nil && n.dir {
			err = wrong(op, name, syscall.EISDIR)
		}
		if err == nil {
			apply(n)
		}
		return err
	})
}

// find is called with the lock held, as are the functions below it.
func (m *Memory) find(op, name string) (*node, error) {
	if n := m.nodes[name]; n != nil {
		return n, nil
	}
	return nil, wrong(op, name, fs.ErrNotExist)
}

// makeFolder makes dir and its parents, but not the folder keep.
func (m *Memory) makeFolder(dir, keep string) error {
	if n := m.nodes[dir]; n != nil && n.dir {
		return nil
	} else if n != nil {
		return wrong("mkdir", dir, syscall.ENOTDIR)
	}
	if dir == keep {
		return wrong("mkdir", dir, fs.ErrNotExist)
	}
	if len(path.Base(dir)) > 255 {
		return wrong("mkdir", dir, syscall.ENAMETOOLONG)
	}
	if err := m.makeFolder(path.Dir(dir), keep); err != nil {
		return err
	}
	m.nodes[dir] = &node{dir: true, mod: time.Now()}
	return nil
}

// top is the first folder of name, "" if it has none.
func top(name string) string {
	if top, _, ok := strings.Cut(name, "/"); ok {
		return top
	}
	return ""
}

func wrong(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

func validFolder(op, dir string) error {
	if !fs.ValidPath(dir) || strings.ContainsRune(dir, 0) {
		return wrong(op, dir, fs.ErrInvalid)
	}
	return nil
}

func validFile(op, name string) error {
	if name == "." {
		return wrong(op, name, fs.ErrInvalid)
	}
	return validFolder(op, name)
}

// nextTemp returns a new temporary name for a Put of name.
func (m *Memory) nextTemp(name string) string {
	m.temps++
	return path.Join(top(name), "tmp", fmt.Sprintf("%s.%016x.tmp", path.Base(name), m.temps))
}
