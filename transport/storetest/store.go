// Package storetest holds the conformance suite that every store of package
// transport passes, and Memory, a store for the tests of the packages above.
// The suite tests what a store promises and nothing that one store happens to
// do; power cuts and system calls are the business of each store's own tests.
package storetest

import (
	"context"
	"testing"
	"time"

	"walship/transport"
)

// Store is what every store offers. The promises are those of the methods of
// [transport.Local]; a store may promise more.
type Store interface {
	Put(ctx context.Context, name string, src transport.Source) error
	Open(ctx context.Context, name string) (transport.File, error)
	Head(ctx context.Context, name string, n int) (transport.Head, error)
	List(ctx context.Context, dir string, fn func(transport.FileInfo) error) error
	Mkdir(ctx context.Context, dir string) error
	Move(ctx context.Context, from, to string) error
	Replace(ctx context.Context, name string, content []byte) error
	Remove(ctx context.Context, name string) error
	RemoveAll(ctx context.Context, names []string) (int, error)
	RemoveFolder(ctx context.Context, dir string) error
	Sync(ctx context.Context, name string) error
	Sweep(ctx context.Context, tmpDir string, age time.Duration) (int, error)
	Now(ctx context.Context, dir string) (time.Time, error)
	Close() error
}

// Ager is a Store whose files a test can make older than they are. Without it
// the suite sees Sweep remove what is young, with a negative age, and keep it,
// but not tell one from the other.
type Ager interface {
	// Age sets the modification time of the file or folder name to d ago.
	Age(name string, d time.Duration) error
}

// Planter is a Store into which a test can put a file at once, without a sync.
// Without it the suite uses Put, which takes its time for thousands of files.
type Planter interface {
	// Plant makes the file name in an existing folder.
	Plant(name string, data []byte) error
}

// Racer is a Store that knowingly does not keep two writers of one name apart
// when they publish at the same moment: one may replace the other's file. The
// suite then demands only that one of their files is there, and whole.
type Racer interface {
	Races() bool
}

// Run runs the suite. Each test opens an empty store of its own, whose root
// exists, and closes it.
func Run(t *testing.T, open func(t *testing.T) Store) {
	for _, group := range []struct {
		name  string
		tests []test
	}{
		{"Put", putTests},
		{"Exclusive", exclusiveTests},
		{"Read", readTests},
		{"List", listTests},
		{"Files", fileTests},
		{"Replace", replaceTests},
		{"RemoveAll", removeAllTests},
		{"Sweep", sweepTests},
		{"Now", nowTests},
		{"Names", nameTests},
		{"Context", contextTests},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, one := range group.tests {
				t.Run(one.name, func(t *testing.T) {
					s := open(t)
					t.Cleanup(func() {
						if err := s.Close(); err != nil {
							t.Errorf("close: %v", err)
						}
					})
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					t.Cleanup(cancel)
					b := &bench{T: t, ctx: ctx, s: s}
					b.ok(s.Mkdir(ctx, cluster))
					one.run(b)
				})
			}
		})
	}
}

const (
	patience = time.Minute // for one test; a store that hangs is a failure
	cluster  = "7710000000000000001"
	folder   = cluster + "/wal/0000000100000000"
	name     = folder + "/000000010000000000000007.zst"
)

type test struct {
	name string
	run  func(*bench)
}
