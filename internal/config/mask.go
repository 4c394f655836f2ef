package config

import "strings"

// MaskURL returns text with "***" in place of the password of a URL, for
// messages and lists. It does not need a valid URL: where a password with
// unescaped characters leaves doubt, it hides more rather than less.
func MaskURL(text string) string {
	start := 0
	if i := strings.Index(text, "//"); i >= 0 && !strings.ContainsAny(strings.TrimSuffix(text[:i], ":"), ":/@") {
		start = i + len("//") // with or without the colon: it may have been forgotten
	}
	authority := text[start:]
	if i := strings.IndexAny(authority, "/?#"); i >= 0 {
		authority = authority[:i]
	}
	colon := strings.IndexByte(strings.NewReplacer("%3A", "::!", "%3a", "::!").Replace(authority), ':')
	end := strings.LastIndexByte(text, '@')
	if colon >= 0 && end >= start+colon && !isPort(authority[colon+1:]) {
		text = text[:start+colon] + ":***" + text[end:]
	}
	if i := strings.IndexAny(text, "?#"); i >= 0 { // no archive's URL has such a part
		text = text[:i+1] + "***"
	}
	return text
}

func isPort(text string) bool {
	return text != "" && len(text) <= 5 && strings.Trim(text, "0123456789") == ""
}
