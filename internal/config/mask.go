package config

import "strings"

// MaskURL returns text with "***" in place of the password of a URL, for
// messages and lists. It does not need a valid URL: where a password with
// unescaped characters leaves doubt, it hides more rather than less.
func MaskURL(text string) string {
	start := 0
	if i := strings.Index(text, "://"); i >= 0 && !strings.ContainsAny(text[:i], ":/@") {
		start = i + len("://")
	}
	authority := text[start:]
	if i := strings.IndexAny(authority, "/?#"); i >= 0 {
		authority = authority[:i]
	}
	colon := strings.IndexByte(authority, ':')
	end := strings.LastIndexByte(text, '@')
	if colon < 0 || end < start+colon || isPort(authority[colon+1:]) {
		return text
	}
	return text[:start+colon+1] + "***" + text[end:]
}

func isPort(text string) bool {
	return text != "" && len(text) <= 5 && strings.Trim(text, "0123456789") == ""
}
