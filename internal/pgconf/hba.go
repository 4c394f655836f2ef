package pgconf

import (
	"net/netip"
	"slices"
	"strings"

	"walship/internal/pgdata"
)

// Access is a standby that may connect for replication.
type Access struct {
	Role    string
	Address string // an address, a network such as 10.0.0.0/8, or a host name
}

// Method is how a role with a password made by setup logs in, on a server of
// that version. md5 takes SCRAM secrets too.
func Method(v pgdata.Version) string {
	if v >= v10 {
		return "scram-sha-256"
	}
	return "md5"
}

// Line is the line of pg_hba.conf that lets it in.
func (a Access) Line(v pgdata.Version) string {
	return strings.Join([]string{"host", "replication", a.Role, a.network(), Method(v)}, "\t")
}

// network is the address as pg_hba.conf wants it.
func (a Access) network() string {
	if ip, err := netip.ParseAddr(a.Address); err == nil {
		return netip.PrefixFrom(ip, ip.BitLen()).String()
	}
	return a.Address
}

// AddAccess returns the text of a pg_hba.conf that lets a in. The first line that
// matches decides, so the new one is put before the first that may match and
// would not do, else at the end. If the first that surely matches asks for a
// password already, nothing is changed. Every other byte stays.
func AddAccess(text []byte, a Access, v pgdata.Version) []byte {
	all := lines(text)
	at := len(all)
	for i := 0; i < len(all); {
		begin, logical, open := i, "", false
		for { // from 14 on a backslash at the end continues a line
			part := strings.TrimRight(all[i], "\r\n")
			i++
			rest, continued := strings.CutSuffix(part, `\`)
			if !continued || v < v14 {
				logical += part
				break
			}
			logical += rest
			if open = i == len(all); open {
				break
			}
		}
		if open { // what came behind it would become a part of it
			at = begin
			break
		}
		switch match, method := a.match(logical, v); {
		case match == never:
			continue
		case match == surely && slices.Contains([]string{"md5", "scram-sha-256", "password"}, method):
			return text
		}
		at = begin
		break
	}
	end := "\n"
	if len(all) > 0 && strings.HasSuffix(all[0], "\r\n") {
		end = "\r\n"
	}
	line := "# walship setup: replication of the standby " + a.Address + end + a.Line(v) + end
	if at == len(all) && len(all) > 0 && !strings.HasSuffix(all[at-1], "\n") {
		line = end + line
	}
	return []byte(strings.Join(slices.Insert(all, at, line), ""))
}

const v14 pgdata.Version = 140000

// match is whether a line of pg_hba.conf decides on an access.
type match int

const (
	never match = iota
	perhaps
	surely
)

// match tells whether the line decides on a connection over TCP for replication,
// and with which method. What is not understood is a perhaps.
func (a Access) match(line string, v pgdata.Version) (match, string) {
	fields, ok := hbaFields(line)
	if len(fields) == 0 {
		return never, ""
	}
	if strings.HasPrefix(fields[0].text, "include") { // from 16 on; what it holds is not looked at
		return perhaps, ""
	}
	if !ok || len(fields) < 4 {
		return perhaps, ""
	}
	result := surely
	switch fields[0].text {
	case "local":
		return never, ""
	case "host":
	default: // hostssl and its like: it depends on the connection
		result = perhaps
	}
	result = min(result, a.database(fields[1]))
	result = min(result, a.user(fields[2]))
	address, method := a.address(fields[3]), ""
	rest := fields[4:]
	if !strings.Contains(fields[3].text, "/") && len(rest) > 0 {
		if ip, err := netip.ParseAddr(fields[3].text); err == nil { // followed by a mask
			address = a.masked(ip, rest[0].text)
			rest = rest[1:]
		}
	}
	if len(rest) > 0 {
		method = rest[0].text
	}
	return min(result, address), method
}

// database: the word all does not mean replication.
func (a Access) database(f hbaField) match {
	result := never
	for _, name := range f.list() {
		switch {
		case name.text == "replication" && !name.quoted:
			return surely
		case strings.HasPrefix(name.text, "@") && !name.quoted:
			result = perhaps
		}
	}
	return result
}

func (a Access) user(f hbaField) match {
	result := never
	for _, name := range f.list() {
		switch {
		case name.text == "all" && !name.quoted, name.text == a.Role:
			return surely
		case strings.HasPrefix(name.text, "@"), strings.HasPrefix(name.text, "+"), strings.HasPrefix(name.text, "/"):
			result = perhaps
		}
	}
	return result
}

func (a Access) address(f hbaField) match {
	if f.text == "all" && !f.quoted {
		return surely
	}
	own, err := netip.ParsePrefix(a.network())
	if err != nil { // a host name
		if strings.EqualFold(f.text, a.Address) {
			return surely
		}
		return perhaps
	}
	net, err := netip.ParsePrefix(f.text)
	if err != nil { // samehost, samenet, a host name
		return perhaps
	}
	return within(own, net)
}

// masked is address for an address with a mask of its own.
func (a Access) masked(ip netip.Addr, mask string) match {
	m, err := netip.ParseAddr(mask)
	if err != nil || m.BitLen() != ip.BitLen() {
		return perhaps
	}
	bits := 0
	for _, b := range m.AsSlice() {
		for ; b&0x80 != 0; b <<= 1 {
			bits++
		}
		if b != 0 {
			return perhaps
		}
	}
	own, err := netip.ParsePrefix(a.network())
	if err != nil {
		return perhaps
	}
	return within(own, netip.PrefixFrom(ip, bits))
}

// within tells whether all of own is in net, some, or nothing.
func within(own, net netip.Prefix) match {
	switch {
	case !own.Overlaps(net.Masked()):
		return never
	case own.Bits() >= net.Bits():
		return surely
	}
	return perhaps
}

// hbaField is one field of a line: a list of words, some of them in quotes.
type hbaField struct {
	text   string
	quoted bool
	more   []hbaField
}

func (f hbaField) list() []hbaField {
	return append([]hbaField{{text: f.text, quoted: f.quoted}}, f.more...)
}

// hbaFields cuts a line into its fields: words divided by blanks, with commas
// between those that belong together. ok is false if a quote does not end.
func hbaFields(line string) (fields []hbaField, ok bool) {
	joined := false // the last word ended with a comma
	for i := 0; ; {
		for i < len(line) && (line[i] == ' ' || line[i] == '\t' || line[i] == '\r') {
			i++
		}
		if i == len(line) || line[i] == '#' {
			return fields, true
		}
		if line[i] == ',' {
			joined = true
			i++
			continue
		}
		var word hbaField
		inside := false
		for ; i < len(line); i++ {
			c := line[i]
			if c == '"' {
				inside, word.quoted = !inside, true
				continue
			}
			if !inside && strings.IndexByte(" \t\r,#", c) >= 0 {
				break
			}
			word.text += string(c)
		}
		if inside {
			return fields, false
		}
		if joined && len(fields) > 0 {
			last := &fields[len(fields)-1]
			last.more = append(last.more, word)
		} else {
			fields = append(fields, word)
		}
		joined = i < len(line) && line[i] == ','
		if joined {
			i++
		}
	}
}
