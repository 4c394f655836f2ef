package integration_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walship/internal/testpg"
	"walship/internal/testsshd"
)

// An archive that takes no more is found out by setup ssh, and by setup primary
// before it changes the server. Without root there is no small disk to be had; a
// server whose files may not grow behaves much the same, but that nobody can see
// why.
func TestSetupArchiveFull(t *testing.T) {
	t.Parallel()
	script := filepath.Join(testpg.Dir(t), "sftp-server")
	must(t, os.WriteFile(script, []byte("#!/bin/sh\ntrap '' XFSZ\nulimit -f 0\nexec "+testsshd.SFTPServer(t)+"\n"), 0o755))
	full := func(host testsshd.Options, root string, code int, texts ...string) {
		t.Helper()
		a := newAdmin(t)
		srv := testsshd.Start(t, host)
		r := a.want(9, nil, "setup", "ssh", "--archive", srv.URL(root), "--accept-new")
		_, key, _ := strings.Cut(keyLine(t, r.stdout), " ") // what stands before it would name another sftp-server
		must(t, os.WriteFile(srv.Authorized, []byte(key), 0o644))
		a.want(code, append(texts, "archive's folder "+root+" cannot be written to"), "setup", "ssh")
		primary := bare(t, testpg.Options{})
		a.path = primary.Bin + ":"
		must(t, primary.Start())
		rec := &recipe{admin: a, sshd: srv, root: root, primary: primary}
		before := rec.settled()
		rec.setupPrimary(code, texts)
		same(t, "with an archive that is full", before, rec.settled())
	}
	root := t.TempDir()
	full(testsshd.Options{Subsystem: script}, root, 16)
	if os.Geteuid() == 0 {
		disk := t.TempDir()
		hostileDisk(t, disk, "size=64k")
		must(t, os.WriteFile(filepath.Join(disk, "filler"), make([]byte, 64<<10), 0o600))
		full(testsshd.Options{}, disk, 11, "no space left on the archive", "free some space there")
	}
}
