package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"walship/archive"
	"walship/internal/config"
	"walship/internal/crypt"
	"walship/internal/layout"
	"walship/internal/pgdata"
	"walship/internal/stored"
	"walship/transport"
)

func (p *program) initCommand() *cli.Command {
	return &cli.Command{
		Name:  "init",
		Usage: "make the archive of a cluster",
		Description: "Run it once, in the data directory or with -D, before archiving begins, as the\n" +
			"user that PostgreSQL runs as. An archive that exists already is left as it is,\n" +
			"but for recipients that the command line names: what is stored from then on is\n" +
			"encrypted to them, and to nobody else. What is stored already stays as it is, so\n" +
			"keep the old keys as long as that is there. See docs/encryption.md. If the\n" +
			"configuration lists several archives, it makes all of them.",
		Flags: append(common(), dataFlag(),
			&cli.StringSliceFlag{Name: "recipient", Usage: "encrypt to this recipient, as age -r takes it: age1…, age1pq1…, \"ssh-ed25519 …\", \"ssh-rsa …\"; may be given several times"}),
		Action: func(x *cli.Context) error {
			if _, err := arguments(x); err != nil {
				return err
			}
			to, named, err := initRecipients(x)
			if err != nil {
				return err
			}
			conf, err := load(x)
			if err != nil {
				return err
			}
			data, err := dataDir(x.String("D"), "")
			if err != nil {
				return err
			}
			if data == nil {
				return errNoDataDir()
			}
			ctx, cancel := p.limited(x.Context, conf)
			defer cancel()
			all, done, err := openEach(ctx, conf, silencePatient)
			if err != nil {
				return err
			}
			defer done()
			return p.initEach(ctx, all, data, to, named)
		},
	}
}

// initEach makes all archives, each of them whatever becomes of the others. The
// error is that of the first that could not be made.
func (p *program) initEach(ctx context.Context, all []named, data *pgdata.Dir, to *crypt.Recipients, anew bool) (first error) {
	for _, a := range all {
		at := ""
		if len(all) > 1 {
			at = a.name + ": "
		}
		err := p.initOne(ctx, a, at, data, to, anew)
		switch {
		case err != nil && first == nil:
			first = fmt.Errorf("%s%w", at, err)
		case err != nil:
			p.say("init: %s%v", at, err)
			p.hint(advice(err))
		}
	}
	return first
}

// initOne makes one archive; anew says that the recipients are also for one that
// exists.
func (p *program) initOne(ctx context.Context, a named, at string, data *pgdata.Dir, to *crypt.Recipients, anew bool) error {
	id, existed, err := archive.Init(ctx, a, data, stored.Codec(a.conf.Codec), to)
	if err != nil {
		return err
	}
	if existed && anew {
		var was layout.Identity
		if id, was, err = archive.SetRecipients(ctx, a, layout.Cluster{SystemID: id.SystemID}, to); err != nil {
			return err
		}
		p.sayRotated(id, was)
	}
	what := "made"
	if existed {
		what = "exists already:"
	}
	p.print("%s%s the archive of cluster %d, segments of %d MB, stored as %s%s", at, what, id.SystemID, id.SegmentSize>>20, id.Codec, sealedText(id.RecipientList()))
	if configured, err := crypt.ParseRecipients(id.RecipientList()); err == nil && existed && !anew && to != nil && !configured.Same(to) {
		p.warn(at + "the setting recipients names others than the archive does, which stays as it is; walship init --recipient … changes it")
	}
	return nil
}

// initRecipients are those to whom an archive's files are to be encrypted; nil if
// there are none. named tells that the command line says so, which also changes an
// archive that exists: a setting alone never does.
func initRecipients(x *cli.Context) (to *crypt.Recipients, named bool, err error) {
	conf, err := load(x)
	if err != nil {
		return nil, false, err
	}
	configured, err := recipients(conf)
	if err != nil {
		return nil, false, err
	}
	if !x.IsSet("recipient") {
		return configured, x.IsSet("recipients") || x.IsSet("recipients-file"), nil
	}
	if to, err = crypt.ParseRecipients(x.StringSlice("recipient")); err != nil {
		return nil, true, err
	}
	if others := to.Beyond(configured); configured != nil && len(others) > 0 {
		return nil, true, transport.WithHint(fmt.Errorf("%w: the setting recipients does not name %s, so nothing could be pushed any more", config.ErrConfig, crypt.Short(others[0])),
			"add it to the setting first, on each server that pushes here")
	}
	return to, true, nil
}

// sayRotated says what new recipients mean for what is stored already.
func (p *program) sayRotated(id, was layout.Identity) {
	switch {
	case id.Recipients == was.Recipients:
	case !was.Sealed():
		p.warn("what was stored so far stays unencrypted; a new base backup (walship backup), and walship prune when it is old enough, leave nothing of it")
	default:
		p.warn("what was stored so far is encrypted to the recipients of before: keep their keys as long as that is there; an identity_file holds several")
	}
}

func errNoDataDir() error {
	return transport.WithHint(fmt.Errorf("the working directory is %w", pgdata.ErrNotDataDir), "run walship in the data directory, or name it with -D or PGDATA")
}
