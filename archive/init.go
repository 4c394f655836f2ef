package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"walship/internal/layout"
	"walship/internal/pgdata"
	"walship/internal/stored"
	"walship/transport"
)

// Init makes the cluster's part of the archive: its folders, and in the end its
// walship.json, which is written once. It returns the identity, and whether it
// was there before.
func Init(ctx context.Context, s Store, data *pgdata.Dir, codec stored.Codec) (id layout.Identity, existed bool, err error) {
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
	id = layout.Identity{SystemID: c.SystemID, SegmentSize: data.Control.SegmentSize, Codec: string(codec), Created: time.Now()}
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
