package config

import (
	"errors"
	"fmt"
	"strings"
)

// archivesKey is the key under which a file lists several archives. It is none
// of Settings: a flag and a variable hold one URL, and take the place of the list.
const archivesKey = "archives"

// archive sets the only archive.
func archive(c *Config, url string) error {
	c.Archive, c.Archives = url, []string{url}
	return nil
}

// listOf returns the URLs in the value of archives.
func listOf(value any) ([]string, error) {
	const example = ` such as archives = ["sftp://wal@one.example.com/srv/wal", "sftp://wal@two.example.com/srv/wal"]`
	items, ok := value.([]any)
	if !ok {
		return nil, fmt.Errorf("want a list of URLs in quotes%s, not %s", example, kind(value))
	}
	if len(items) == 0 {
		return nil, errors.New("the list is empty; leave it out if no archive is meant to be set")
	}
	list := []string{}
	for _, item := range items {
		url, ok := item.(string)
		if !ok {
			return nil, fmt.Errorf("want a list of URLs in quotes%s, not of %s", example, kind(item))
		}
		list = append(list, url)
	}
	return list, nil
}

func bothArchives(name string, list, one int) error {
	return fmt.Errorf("%s: archives (line %d) and archive (line %d) are both set: keep the one that is meant", printable(name), list, one)
}

// applyList is apply for a list of archives.
func (l *loader) applyList(s Setting, list []string, value *Value, origin string) error {
	var shown []string
	known := make(map[string]bool)
	for _, url := range list {
		_, err := l.apply(s, url, "")
		if err == nil && known[strings.TrimRight(url, "/")] {
			// A copy in one place would pass for copies in two.
			err = errors.New("listed twice")
		}
		if err != nil {
			return fmt.Errorf("%s %q (%s): %w", archivesKey, s.shown(url), origin, err)
		}
		known[strings.TrimRight(url, "/")] = true
		shown = append(shown, s.shown(url))
	}
	l.config.Archive, l.config.Archives = list[0], list
	value.Text, value.raw, value.Origin = strings.Join(shown, ", "), strings.Join(list, "\n"), origin
	if len(list) > 1 {
		value.Name = archivesKey
	}
	return nil
}

// Each returns the configuration of every archive as if it were the only one, in
// the order of the list; none if no archive is set.
func (c *Config) Each() []*Config {
	var all []*Config
	for _, url := range c.Archives {
		all = append(all, c.Only(url))
	}
	return all
}

// Only returns the configuration with this URL, which the caller has checked, as
// the only archive.
func (c *Config) Only(url string) *Config {
	one := *c
	one.Archive, one.Archives = url, []string{url}
	return &one
}
