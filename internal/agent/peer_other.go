//go:build !linux

package agent

import (
	"errors"
	"net"
)

// Possible reports whether an agent can be had on this system.
const Possible = false

var errSystem = errors.New("there is an agent on Linux only")

func sameUser(*net.UnixConn) error { return errSystem }
func keepFromChildren() error      { return errSystem }
