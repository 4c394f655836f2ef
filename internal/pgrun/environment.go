package pgrun

import (
	"os"
	"strings"
)

// environment is this process's, without what would lead PostgreSQL's programs
// to other servers or change how they speak. Root's own home is not the owner's.
func (o Owner) environment() []string {
	var env []string
	path := false
	for _, e := range os.Environ() {
		name, _, _ := strings.Cut(e, "=")
		switch {
		case strings.HasPrefix(name, "PG") || strings.HasPrefix(name, "LC_") || name == "LANG" || name == "LANGUAGE":
			continue
		case o.credential != nil && (name == "HOME" || name == "USER" || name == "LOGNAME" || name == "SSH_AUTH_SOCK" || strings.HasPrefix(name, "XDG_")):
			continue
		}
		path = path || name == "PATH"
		env = append(env, e)
	}
	if !path {
		env = append(env, "PATH=/usr/local/bin:/usr/bin:/bin")
	}
	if o.credential != nil {
		env = append(env, "USER="+o.Name, "LOGNAME="+o.Name)
		if o.Home != "" {
			env = append(env, "HOME="+o.Home)
		}
	}
	return append(env, "LC_ALL=C")
}
