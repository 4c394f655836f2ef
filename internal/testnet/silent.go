package testnet

import (
	"net"
	"sync"
)

// Silent starts a server that accepts every connection, says greeting (which may
// be empty) and never another word, nor does it hang up. It returns host:port.
func Silent(t TB, greeting string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("%v", err)
	}
	var (
		mu      sync.Mutex
		open    []net.Conn
		working sync.WaitGroup
	)
	working.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte(greeting)) // the client may have gone
			mu.Lock()
			open = append(open, conn)
			mu.Unlock()
		}
	})
	t.Cleanup(func() {
		_ = l.Close() // ends Accept
		working.Wait()
		for _, conn := range open {
			_ = conn.Close()
		}
	})
	return l.Addr().String()
}
