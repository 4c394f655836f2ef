package transport

import (
	"context"

	"walship/transport/internal/sftpclient"
)

// Space is how much room the archive's file system has.
type Space struct {
	Free     int64 // bytes that the account may use
	Total    int64 // bytes
	ReadOnly bool
}

// Space returns the room on the file system of the store's root. Where it is
// not to be had, the error wraps errors.ErrUnsupported.
func (s *SFTP) Space(ctx context.Context) (Space, error) {
	var room sftpclient.Space
	err := s.try(ctx, func(c *session) (err error) {
		room, err = c.Space(ctx, s.url.Path)
		return err
	})
	return Space{Free: room.Free, Total: room.Total, ReadOnly: room.ReadOnly}, err
}

// Space returns the room on the file system of the store's root. Where it is
// not to be had, the error wraps errors.ErrUnsupported.
func (l *Local) Space(ctx context.Context) (Space, error) {
	root, err := l.openRoot(ctx, "statfs", ".")
	if err != nil {
		return Space{}, err
	}
	defer root.Close()
	f, err := openFolder(root, ".")
	if err != nil {
		return Space{}, l.explain(err)
	}
	defer f.Close()
	return spaceOf(f)
}
