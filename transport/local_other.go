//go:build !linux

package transport

import (
	"errors"
	"os"
)

// renameNoReplace is only to be had on Linux.
func renameNoReplace(_ *os.Root, from, to string) error {
	return &os.LinkError{Op: "rename", Old: from, New: to, Err: errors.ErrUnsupported}
}
