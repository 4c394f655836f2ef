package pgdata

import "strings"

// token is a kind of token of PostgreSQL's configuration files.
type token uint8

const (
	tokenEnd       token = iota // of the file
	tokenLine                   // end of a line
	tokenName                   // name, the only one that may also begin a line …
	tokenQualified              // … besides name.name
	tokenUnquoted               // a word with - . _ : / in it
	tokenString                 // quoted
	tokenNumber                 // with or without a unit
	tokenEquals
	tokenBad // a character that begins nothing
)

// scanner cuts a configuration file into tokens by the rules of PostgreSQL's
// guc-file.l: the longest match counts. Bytes above 127 are letters.
type scanner struct {
	src  string
	line int    // number of the line that the next token is on, from 1
	text string // of the token that next has returned
}

func (s *scanner) next() token {
	s.src = strings.TrimLeft(s.src, " \t\r")
	if s.src != "" && s.src[0] == '#' {
		s.src = s.src[span(s.src, func(c byte) bool { return c != '\n' }):]
	}
	if s.src == "" {
		s.text = ""
		return tokenEnd
	}
	kind, n := match(s.src)
	s.text, s.src = s.src[:n], s.src[n:]
	if kind == tokenLine {
		s.line++
	}
	return kind
}

// match returns the token at the beginning of src, and its length.
func match(src string) (token, int) {
	switch c := src[0]; {
	case c == '\n':
		return tokenLine, 1
	case c == '=':
		return tokenEquals, 1
	case c == '\'':
		if n := stringLen(src); n > 0 {
			return tokenString, n
		}
	case letter(c):
		n := span(src, func(c byte) bool { return letterOrDigit(c) || strings.IndexByte("-.:/", c) >= 0 })
		name := span(src, letterOrDigit)
		if n == name {
			return tokenName, n
		}
		if src[name] == '.' && name+1 < n && letter(src[name+1]) && name+1+span(src[name+1:], letterOrDigit) == n {
			return tokenQualified, n
		}
		return tokenUnquoted, n
	default:
		if n := numberLen(src); n > 0 {
			return tokenNumber, n
		}
	}
	return tokenBad, 1
}

// stringLen returns the length of the quoted string at the beginning of src, 0
// if it does not end on its line.
func stringLen(src string) int {
	end := 0
	for i := 1; i < len(src) && src[i] != '\n'; i++ {
		switch src[i] {
		case '\'':
			end = i + 1
			if i+1 == len(src) || src[i+1] != '\'' {
				return end
			}
			i++
		case '\\':
			i++
			if i < len(src) && src[i] == '\n' {
				return end
			}
		}
	}
	return end
}

// numberLen returns the length of the number at the beginning of src, a whole
// one with its unit or a real one, 0 if there is none.
func numberLen(src string) int {
	sign := 0
	if src[0] == '+' || src[0] == '-' {
		sign = 1
	}
	digits := sign + span(src[sign:], digit)
	whole := 0
	if digits > sign {
		whole = digits + span(src[digits:], unit)
		if rest := src[sign:]; strings.HasPrefix(rest, "0x") {
			if hex := span(rest[2:], hexDigit); hex > 0 {
				whole = sign + 2 + hex
				whole += span(src[whole:], unit)
			}
		}
	}
	real := 0
	if digits < len(src) && src[digits] == '.' {
		real = digits + 1 + span(src[digits+1:], digit)
		if e := src[real:]; e != "" && (e[0] == 'e' || e[0] == 'E') {
			at := 1
			if len(e) > 1 && (e[1] == '+' || e[1] == '-') {
				at = 2
			}
			if n := span(e[at:], digit); n > 0 {
				real += at + n
			}
		}
	}
	return max(whole, real)
}

// unescape returns what a quoted string stands for: two quotes are one, and the
// escapes of C for control characters and octal numbers hold; a backslash before
// anything else goes away.
func unescape(quoted string) string {
	in := quoted[1 : len(quoted)-1]
	if !strings.ContainsAny(in, `'\`) {
		return in
	}
	out := make([]byte, 0, len(in))
	for i := 0; i < len(in); i++ {
		c := in[i]
		switch {
		case c == '\'':
			i++ // its twin
		case c == '\\' && i+1 < len(in):
			i++
			c = in[i]
			if at := strings.IndexByte("bfnrt", c); at >= 0 {
				c = "\b\f\n\r\t"[at]
			} else if n := span(in[i:min(i+3, len(in))], octalDigit); n > 0 {
				c = 0
				for _, d := range []byte(in[i : i+n]) {
					c = c<<3 | (d - '0')
				}
				i += n - 1
			}
		}
		out = append(out, c)
	}
	return string(out)
}

// span returns how many bytes at the beginning of s are of the class.
func span(s string, class func(byte) bool) int {
	n := 0
	for n < len(s) && class(s[n]) {
		n++
	}
	return n
}

func digit(c byte) bool         { return '0' <= c && c <= '9' }
func octalDigit(c byte) bool    { return '0' <= c && c <= '7' }
func unit(c byte) bool          { return 'a' <= c|0x20 && c|0x20 <= 'z' && c < 0x80 }
func hexDigit(c byte) bool      { return digit(c) || 'a' <= c|0x20 && c|0x20 <= 'f' && c < 0x80 }
func letter(c byte) bool        { return unit(c) || c == '_' || c >= 0x80 }
func letterOrDigit(c byte) bool { return letter(c) || digit(c) }
