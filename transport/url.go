package transport

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"
	"unicode/utf8"
)

// URL says where a store is.
type URL struct {
	Scheme string // "file" or "sftp"
	User   string // "" if not given
	Host   string // name, Host alias of ssh_config, or IP address without brackets; "" for file
	Port   string // decimal, "" if not given

	// Path is clean and slash-separated, without percent-encoding. It is
	// absolute, or for sftp relative to the login folder ("." is that folder).
	Path string
}

const noPassword = "holds a password; walship logs in with a key, take the password out of the URL"

// ParseURL reads one of
//
//	sftp://[user@]host[:port]/absolute/path
//	sftp://[user@]host[:port]/~/relative/to/login/folder
//	file:///absolute/path
//
// in which % introduces two hex digits. Its errors are ErrConfig, name what is
// wrong, and never repeat a password.
func ParseURL(s string) (URL, error) {
	bad := func(format string, args ...any) (URL, error) {
		return URL{}, fmt.Errorf("%w: archive URL %s %s", ErrConfig, quoted(s), fmt.Sprintf(format, args...))
	}
	if s == "" {
		return bad("is empty; it looks like sftp://user@host/path or file:///path")
	}
	if !printable(s) {
		return bad("holds a control character or is not UTF-8")
	}
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return bad("has no scheme; %s", suggest(s))
	}
	authority, encoded := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, encoded = rest[:i], rest[i:]
	}
	if hasPassword(authority, encoded) {
		return bad(noPassword)
	}
	if i := strings.IndexAny(encoded, "?#"); i >= 0 {
		return bad("has a query or fragment after %q, which means nothing here (write %%3F for ?, %%23 for #)", encoded[i:i+1])
	}
	p, err := url.PathUnescape(encoded)
	if err != nil {
		return bad("has a %% in the path that two hex digits do not follow (write %%25 for %%)")
	}
	if !printable(p) {
		return bad("holds, in the path, a control character or is not UTF-8")
	}
	u := URL{Scheme: strings.ToLower(scheme)}
	switch u.Scheme {
	case "file":
		if authority != "" && authority != "localhost" {
			return bad("has a relative path; after file:// it begins with a slash, as in file:///var/lib/pgsql/archive")
		}
		if u.Path = path.Clean(p); p == "" || u.Path == "/" {
			return bad("names no folder, as in file:///var/lib/pgsql/archive")
		}
		return u, nil
	case "sftp":
	default:
		return bad("has the unknown scheme %q; sftp:// and file:// are known", scheme)
	}

	if why := u.setAuthority(authority); why != "" {
		return bad("%s", why)
	}
	switch {
	case p == "":
		return bad("has no path; sftp://%s/srv/wal is absolute, sftp://%[1]s/~/wal in the login folder", authority)
	case p == "/~" || strings.HasPrefix(p, "/~/"):
		u.Path = path.Clean("./" + strings.TrimPrefix(p[2:], "/"))
	case strings.HasPrefix(p, "/~"):
		return bad("names another user's home (%s); give the absolute path", p[1:])
	default:
		u.Path = path.Clean(p)
	}
	return u, nil
}

// setAuthority reads [user@]host[:port] and answers what is wrong with it, or "".
func (u *URL) setAuthority(s string) string {
	hostport := s
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		user, err := url.PathUnescape(s[:i])
		if err != nil || user == "" {
			return "has an empty or badly encoded user before @"
		}
		if strings.Contains(user, ":") {
			return noPassword
		}
		if !plain(user) {
			return fmt.Sprintf("has the user %q; it may not begin with - or hold blanks or characters of the shell", user)
		}
		u.User, hostport = user, s[i+1:]
	}
	var host, port string
	var hasPort bool
	if strings.HasPrefix(hostport, "[") {
		var tail string
		var ok bool
		if host, tail, ok = strings.Cut(hostport[1:], "]"); !ok || tail != "" && tail[0] != ':' {
			return fmt.Sprintf("has the host %q; an IPv6 address stands in brackets, as in [2001:db8::1]:22", hostport)
		}
		host = strings.Replace(host, "%25", "%", 1) // the zone, RFC 6874
		if ip, err := netip.ParseAddr(host); err != nil || !ip.Is6() || !plain(host) {
			return fmt.Sprintf("has the host %q, which is not an IPv6 address", host)
		}
		if tail != "" {
			port, hasPort = tail[1:], true
		}
	} else {
		host, port, hasPort = strings.Cut(hostport, ":")
		if strings.Contains(port, ":") {
			return fmt.Sprintf("has the host %q; an IPv6 address stands in brackets, as in [2001:db8::1]:22", hostport)
		}
		if host == "" {
			return "names no host, as in sftp://user@host/path"
		}
		if !plain(host) || strings.ContainsAny(host, "%[]@\\") {
			return fmt.Sprintf("has the host %q; it may not begin with - or hold blanks or special characters", host)
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); hasPort && (err != nil || n == 0) {
		return fmt.Sprintf("has the port %q, which is not a number from 1 to 65535", port)
	} else if hasPort {
		port = strconv.FormatUint(n, 10)
	}
	u.Host, u.Port = host, port
	return ""
}

// String returns the URL in the form that ParseURL reads. It holds no secret.
func (u URL) String() string {
	p := (&url.URL{Path: u.Path}).EscapedPath()
	if u.Scheme == "file" {
		return "file://" + p
	}
	s := u.Scheme + "://"
	if u.User != "" {
		s += url.PathEscape(u.User) + "@"
	}
	switch host := strings.Replace(u.Host, "%", "%25", 1); {
	case u.Port != "":
		s += net.JoinHostPort(host, u.Port)
	case strings.Contains(host, ":"):
		s += "[" + host + "]"
	default:
		s += host
	}
	if !strings.HasPrefix(p, "/") {
		p = "/~/" + strings.TrimPrefix(p, "./")
	} else if strings.HasPrefix(p, "/~") {
		p = "/." + p // absolute, though its first folder begins with ~
	}
	return s + p
}

// hasPassword reports whether a password reaches from the authority into what
// follows it: one with a slash, ? or # in it. host:22/path@x has none.
func hasPassword(authority, rest string) bool {
	_, port, colon := strings.Cut(authority, ":")
	_, err := strconv.ParseUint(port, 10, 16)
	return colon && err != nil && strings.Contains(rest, "@") && !strings.ContainsAny(authority, "@[")
}

// quoted is s for a message, without what may be a password in it: all
// between the first colon after the scheme and the last @.
func quoted(s string) string {
	begin := 0
	if i := strings.Index(s, "://"); i >= 0 {
		begin = i + 3
	}
	at := strings.LastIndexByte(s, '@')
	for _, colon := range []string{":", "%3A", "%3a"} {
		if i := strings.Index(s[begin:], colon); i >= 0 && begin+i < at {
			s = s[:begin+i+len(colon)] + "…" + s[at:]
			at = strings.LastIndexByte(s, '@')
		}
	}
	if i := strings.IndexAny(s, "?#"); i >= 0 {
		s = s[:i+1] + "…"
	}
	return strconv.Quote(s)
}

// suggest says what was probably meant by an archive without a scheme.
func suggest(s string) string {
	host, p, colon := strings.Cut(s, ":")
	switch {
	case quoted(s) != strconv.Quote(s): // it may hold a password
	case strings.HasPrefix(s, "/"):
		return fmt.Sprintf("did you mean %q?", "file://"+s)
	case host == "file":
		return fmt.Sprintf("did you mean %q?", "file:///"+strings.TrimLeft(p, "/"))
	case colon && !strings.Contains(host, "/"):
		if !strings.HasPrefix(p, "/") {
			p = "/~/" + p
		}
		return fmt.Sprintf("did you mean %q?", "sftp://"+host+p)
	}
	return "it looks like sftp://user@host/path or file:///path"
}

// printable reports whether s is UTF-8 without control characters.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 })
}

// plain reports whether s can be a host or user on a command line, and in one
// that ssh_config's Match exec hands to a shell.
func plain(s string) bool {
	return s != "" && s[0] != '-' && printable(s) && !strings.ContainsAny(s, " /'`\"$;&<>|(){}*?!#")
}
