package pgrun

import (
	"strings"

	"walship/internal/pgdata"
)

// MaxSocketFolder is the longest path of a folder that a server can make its
// socket in, bytes: an address holds 107, with the socket's own name.
const MaxSocketFolder = 107 - len("/.s.PGSQL.65535")

// SocketSetting is the name of the setting that holds the folder of the socket.
func SocketSetting(v pgdata.Version) string {
	if v < 90300 {
		return "unix_socket_directory"
	}
	return "unix_socket_directories"
}

// FitForSocket reports whether a folder's path can be the value of that setting
// in every version: short enough, and without what a list would be split at.
func FitForSocket(path string) bool {
	return len(path) <= MaxSocketFolder && !strings.ContainsAny(path, ", '\"\\\t\n")
}
