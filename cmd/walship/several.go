package main

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"walship/archive"
	"walship/internal/config"
	"walship/internal/crypt"
	"walship/internal/stored"
	"walship/restore"
)

// named is an open archive, and what messages call it.
type named struct {
	store
	name string
	conf *config.Config // as if it were the only one
}

// openEach opens every configured archive. Connections are begun in the
// background, so that none waits for another. done closes them, not one after
// the other.
func openEach(ctx context.Context, c *config.Config, silence time.Duration) (all []named, done func(), err error) {
	done = func() { closeAll(all) }
	if err := c.RequireArchive(); err != nil {
		return nil, nil, err
	}
	for _, one := range c.Each() {
		s, err := open(ctx, one, silence)
		if err != nil {
			done()
			return nil, nil, err
		}
		all = append(all, named{s, config.MaskURL(one.Archive), one})
	}
	return all, done, nil
}

// closeAll closes the archives, not one after the other.
func closeAll(all []named) {
	var ended sync.WaitGroup
	for _, a := range all {
		ended.Go(func() { _ = a.Close() })
	}
	ended.Wait()
}

// maskedURLs names all archives, for people to read.
func maskedURLs(c *config.Config) string {
	var all []string
	for _, one := range c.Each() {
		all = append(all, config.MaskURL(one.Archive))
	}
	return strings.Join(all, ", ")
}

// pushersOf pushes to the archives.
func pushersOf(all []named, to *crypt.Recipients, warn func(string)) archive.Pushers {
	var ps archive.Pushers
	for _, a := range all {
		ps = append(ps, &archive.Pusher{Store: a.store, Codec: stored.Codec(a.conf.Codec), Recipients: to, HeaderCheck: a.conf.HeaderCheck, Warn: warn, Archive: a.name})
	}
	return ps
}

// fetchersOf fetches from the archives, as f would from one.
func fetchersOf(f *restore.Fetcher, all []named) restore.Fetchers {
	var fs restore.Fetchers
	for _, a := range all {
		one := *f
		one.Store, one.Archive = a.store, a.name
		fs = append(fs, &one)
	}
	return fs
}

// loadOne is load for a command that works on one archive: with several it is the
// first, and that is said.
func (p *program) loadOne(x *cli.Context) (*config.Config, error) {
	conf, err := load(x)
	if err != nil {
		return nil, err
	}
	if n := len(conf.Archives); n > 1 {
		p.say("%s: %s, the first of %d archives; --archive names another", p.command, config.MaskURL(conf.Archive), n)
	}
	return conf, nil
}
