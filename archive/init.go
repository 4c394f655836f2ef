package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"walship/internal/crypt"
	"walship/internal/layout"
	"walship/internal/pgdata"
	"walship/internal/stored"
	"walship/transport"
)

// Init makes the cluster's part of the archive: its folders, and in the end its
// walship.json, which is written once. Its files are encrypted to the recipients,
// if to is not nil. It returns the identity, and whether it was there before: then
// it is left as it was, whatever codec and to say.
func Init(ctx context.Context, s Store, data *pgdata.Dir, codec stored.Codec, to *crypt.Recipients) (id layout.Identity, existed bool, err error) {
	c := layout.Cluster{SystemID: data.Control.SystemID}
	p := &Pusher{Store: s}
	id, err = p.identity(ctx, c)
	switch {
	case err == nil:
		existed = true
		if id.SegmentSize != data.Control.SegmentSize {
			return id, true, fmt.Errorf("%w: its segments have %d bytes, this cluster's %d", ErrArchive, id.SegmentSize, data.Control.SegmentSize)
		}
	case errors.Is(err, layout.ErrIdentity) || !errors.Is(err, ErrArchive):
		return id, false, err
	}
	if err := s.MkdirRoot(ctx); err != nil {
		return id, existed, err
	}
	for _, folder := range c.Folders() {
		if err := s.Mkdir(ctx, folder); err != nil {
			return id, existed, err
		}
	}
	if existed {
		return id, true, s.Sync(ctx, c.IdentityFile()) // another init may not have got there
	}
	id = layout.Identity{SystemID: c.SystemID, SegmentSize: data.Control.SegmentSize, Codec: string(codec), Created: time.Now(), Recipients: strings.Join(to.Texts(), "\n")}
	if n := len(id.Marshal()); n > layout.MaxIdentitySize {
		return id, false, fmt.Errorf("its walship.json would have %d bytes, %d are the most there may be: name fewer recipients", n, layout.MaxIdentitySize)
	}
	err = s.Put(ctx, c.IdentityFile(), transport.Source{Write: func(w io.WriterAt) error {
		_, err := w.WriteAt(id.Marshal(), 0)
		return err
	}})
	if errors.Is(err, fs.ErrExist) { // another init came first
		id, err = p.identity(ctx, c)
		return id, true, err
	}
	return id, false, err
}

// Replacer is a Store whose walship.json can be written anew.
type Replacer interface {
	Store
	Replace(ctx context.Context, name string, content []byte) error
}

// SetRecipients makes to the recipients of what is stored from now on, and returns
// the identity as it is then, and what it was. What is stored already stays as it
// is. Nil means that the new walship.json is on stable storage: it took the place
// of the old one at once. A push that is under way may still use the old ones.
func SetRecipients(ctx context.Context, s Replacer, c layout.Cluster, to *crypt.Recipients) (id, was layout.Identity, err error) {
	if to == nil {
		return id, was, fmt.Errorf("%w: there must be one", crypt.ErrRecipients)
	}
	if was, err = (&Pusher{Store: s}).identity(ctx, c); err != nil {
		return id, was, err
	}
	id = was
	if old, err := crypt.ParseRecipients(was.RecipientList()); err == nil && old.Same(to) {
		return id, was, s.Sync(ctx, c.IdentityFile())
	}
	id.Recipients = strings.Join(to.Texts(), "\n")
	content := id.Marshal()
	if len(content) > layout.MaxIdentitySize {
		return was, was, fmt.Errorf("its walship.json would have %d bytes, %d are the most there may be: name fewer recipients", len(content), layout.MaxIdentitySize)
	}
	return id, was, s.Replace(ctx, c.IdentityFile(), content)
}
