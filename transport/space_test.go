//go:build linux

package transport_test

import (
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"
	"testing"

	"walship/internal/testsshd"
	"walship/transport"
)

// Both kinds of store tell the room of the file system that their root is on.
func TestSpace(t *testing.T) {
	s := openSSH(t, testsshd.Options{}).open(t, transport.Full)
	var want syscall.Statfs_t
	if err := syscall.Statfs(s.root, &want); err != nil {
		t.Fatal(err)
	}
	remote, err := s.Space(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	local, err := transport.NewLocal(s.root, transport.Full).Space(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	total := int64(want.Blocks) * want.Frsize
	for name, got := range map[string]transport.Space{"SFTP": remote, "local": local} {
		if got.Total != total || got.Free <= 0 || got.Free > total || got.ReadOnly {
			t.Errorf("%s: %+v, want %d bytes in all", name, got, total)
		}
	}
	if _, err := transport.NewLocal(filepath.Join(s.root, "absent"), transport.Full).Space(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an absent root: %v", err)
	}
	lacks := openSSH(t, testsshd.Options{Subsystem: testsshd.SFTPServer(t) + " -P statvfs"}).open(t, transport.Full)
	if _, err := lacks.Space(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a server that does not tell: %v", err)
	}
}
