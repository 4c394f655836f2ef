package testgosftp

import (
	"encoding/binary"
	"slices"

	"golang.org/x/crypto/ssh"
)

// discreet takes extensions out of the first packet that the server sends, its
// VERSION (draft-ietf-secsh-filexfer-02, section 4). The library sends one
// packet after the other.
type discreet struct {
	ssh.Channel
	hide    []string
	held    []byte // of the first packet
	version bool   // it has been sent
}

func (d *discreet) Write(p []byte) (int, error) {
	if d.version {
		return d.Channel.Write(p)
	}
	d.held = append(d.held, p...)
	if len(d.held) < 4 || len(d.held) < 4+int(binary.BigEndian.Uint32(d.held)) {
		return len(p), nil
	}
	d.version = true
	if _, err := d.Channel.Write(without(d.held, d.hide)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// without returns the packet of a VERSION less the extensions to be hidden.
func without(packet []byte, hide []string) []byte {
	const head = 9 // length, type, version
	out, rest := slices.Clone(packet[:head]), packet[head:]
	take := func() []byte {
		n := 4 + binary.BigEndian.Uint32(rest)
		v := rest[:n]
		rest = rest[n:]
		return v
	}
	for len(rest) > 0 {
		name, data := take(), take()
		if !slices.Contains(hide, string(name[4:])) {
			out = append(append(out, name...), data...)
		}
	}
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	return out
}
