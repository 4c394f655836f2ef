package transport

import (
	"net"

	"golang.org/x/sys/unix"
)

// quickAck returns a function that turns delayed acknowledgements off until
// the kernel turns them on again, as it does by itself: sshd's small packets
// wait for them (Nagle's algorithm), up to 40 ms at each step of a login.
func quickAck(c net.Conn) func() {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return func() {}
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return func() {}
	}
	set := func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) }
	return func() { _ = raw.Control(set) }
}
