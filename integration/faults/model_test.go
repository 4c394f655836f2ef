//go:build linux

package faults_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"walship/internal/layout"
	"walship/internal/stored"
	"walship/walname"
)

// model is what is known of an archive without asking it.
type model struct {
	mu     sync.Mutex
	pushed map[string]map[sum]bool // contents that anybody has tried to push, by name
	acked  map[string]sum          // what was acknowledged
	acks   []ack
	gone   uint64         // segments before this one may have been pruned
	seen   map[string]sum // what was found in the archive
	looked map[string]lookedAt
}

type sum = [sha256.Size]byte

type ack struct {
	name string
	at   time.Duration // since the epoch
}

// lookedAt is a stored file that was read whole, and need not be again.
type lookedAt struct {
	size int64
	time time.Time
	sum  sum
}

func newModel() *model {
	return &model{pushed: map[string]map[sum]bool{}, acked: map[string]sum{}, seen: map[string]sum{}, looked: map[string]lookedAt{}}
}

// push notes that this content is on its way.
func (m *model) push(name string, content []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pushed[name] == nil {
		m.pushed[name] = map[sum]bool{}
	}
	m.pushed[name][sha256.Sum256(content)] = true
}

// ack notes an acknowledgement. It fails if other content was acknowledged.
func (m *model) ack(name string, content []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := sha256.Sum256(content)
	if old, ok := m.acked[name]; ok && old != s && !m.pruned(name) {
		return fmt.Errorf("two contents of %s were acknowledged", name)
	}
	m.acked[name] = s
	m.acks = append(m.acks, ack{name, time.Duration(time.Now().UnixNano())})
	return nil
}

// hasAcked reports whether the file was acknowledged and must be there.
func (m *model) hasAcked(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.acked[name]
	return ok && !m.pruned(name)
}

// prune notes that the segments before this one may go from now on.
func (m *model) prune(number uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gone = max(m.gone, number)
}

func (m *model) mayBeGone(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pruned(name)
}

// pruned needs mu.
func (m *model) pruned(name string) bool {
	n, err := walname.Parse(name)
	return err == nil && n.Kind == walname.KindSegment && uint64(n.Segment.Log)*perLog+uint64(n.Segment.Seg) < m.gone
}

// known lists the names that anybody has pushed, in order.
func (m *model) known() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for name := range m.pushed {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// delivered judges what a fetch has delivered.
func (m *model) delivered(name string, content []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := sha256.Sum256(content)
	if !m.pushed[name][s] {
		return fmt.Errorf("%s was delivered with %d bytes that nobody has pushed", name, len(content))
	}
	if want, ok := m.acked[name]; ok && want != s && !m.pruned(name) {
		return fmt.Errorf("%s was delivered with other content than was acknowledged", name)
	}
	return nil
}

// isFinal reports whether the path is one under which a WAL file is found.
func (w *world) isFinal(path string) bool {
	rel, err := filepath.Rel(w.folder(), path)
	if err != nil {
		return false
	}
	top, _, _ := strings.Cut(rel, string(filepath.Separator))
	return top == "wal" || top == "history"
}

// checkArchive looks at all that is stored: what has a final name is whole and
// was once pushed, what was acknowledged is there and has not changed.
func (w *world) checkArchive() {
	found := map[string]sum{}
	err := filepath.WalkDir(w.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(w.folder(), path)
		if err != nil {
			return err
		}
		top, _, _ := strings.Cut(rel, string(filepath.Separator))
		if top == "tmp" || rel == "walship.json" {
			return nil
		}
		name, ok := layout.ParseStored(filepath.Base(path), stored.Extensions(stored.Written()))
		if !ok || !w.isFinal(path) {
			w.broken("b", "what is %s?", rel)
			return nil
		}
		s, err := w.read(path)
		if err != nil {
			w.broken("b", "%s is not whole: %v", rel, err)
			return nil
		}
		if _, twice := found[name.String()]; twice {
			w.broken("b", "%s is stored twice", name)
		}
		found[name.String()] = s
		return nil
	})
	must(w.t, err)

	m := w.model
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, s := range found {
		if !m.pushed[name][s] {
			w.broken("b", "%s is stored with content that nobody has pushed", name)
		}
		if before, ok := m.seen[name]; ok && before != s && !m.pruned(name) {
			w.broken("a", "%s has been replaced", name)
		}
		m.seen[name] = s
	}
	for name, want := range m.acked {
		s, ok := found[name]
		switch {
		case m.pruned(name):
		case !ok:
			w.broken("a", "%s was acknowledged and is missing", name)
		case s != want:
			w.broken("a", "%s was acknowledged and has other content", name)
		}
	}
}

// read reads a stored file to its end, once for each state of it.
func (w *world) read(path string) (sum, error) {
	info, err := os.Stat(path)
	if err != nil {
		return sum{}, err
	}
	old, ok := w.model.looked[path]
	if ok && old.size == info.Size() && old.time.Equal(info.ModTime()) {
		return old.sum, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return sum{}, err
	}
	defer f.Close()
	c, err := stored.Decode(f, info.Size(), stored.CodecOf(path), segmentSize)
	if err != nil {
		return sum{}, err
	}
	defer c.Close()
	h := sha256.New()
	if _, err := io.Copy(h, c); err != nil {
		return sum{}, err
	}
	if !c.HasRecord {
		return sum{}, errors.New("it has no record")
	}
	s := sum(h.Sum(nil))
	w.model.looked[path] = lookedAt{info.Size(), info.ModTime(), s}
	return s, nil
}
