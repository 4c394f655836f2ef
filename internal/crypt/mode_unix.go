//go:build unix

package crypt

import (
	"io/fs"
	"syscall"
)

// allowed are the permission bits that an identity file may have: PostgreSQL's
// own rule for the secret key of its certificate.
func allowed(info fs.FileInfo) fs.FileMode {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Uid == 0 {
		return 0o740
	}
	return 0o700
}
