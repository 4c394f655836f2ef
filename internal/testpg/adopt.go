package testpg

// AdoptAt is Adopt for a data directory whose settings give it its port and its
// socket's folder already: nothing in it is changed.
func AdoptAt(t TB, data string, port int, sockets string) *Cluster {
	t.Helper()
	c := place(t, majorOf(t, data), nil, "")
	c.Data, c.Port, c.Sockets = data, port, sockets
	return c
}

// FreePort is a port that nobody listens on, for a server that is set up by
// somebody else.
func FreePort(t TB) int {
	t.Helper()
	port, err := freePort()
	if err != nil {
		t.Fatalf("%v", err)
	}
	return port
}
