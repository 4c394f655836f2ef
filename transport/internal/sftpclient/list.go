package sftpclient

import (
	"context"
	"errors"
)

// listAhead is how many pages of a folder are asked for at once. A page of
// OpenSSH's holds a hundred names.
const listAhead = 16

// Entry is one name in a folder.
type Entry struct {
	Name string // as the server sent it, not to be trusted
	Attrs
}

// OpenDir opens a folder to be listed.
func (c *Client) OpenDir(path string) OpenCall {
	return OpenCall{c.start("list", path, typeOpendir, appendString(nil, path))}
}

// List waits for the folder of a sent OpenDir and calls fn with each of its
// entries but "." and "..". An error of fn ends it.
func (o OpenCall) List(ctx context.Context, fn func(Entry) error) error {
	h, err := o.Handle(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	next := func() *Call {
		return h.start(&Call{op: "list"}, typeReaddir, nil, nil)
	}
	// Most folders fit a page or two; more is asked for once they do not.
	pages := []*Call{next(), next()}
	for len(pages) > 0 {
		call := pages[0]
		pages = pages[1:]
		p, err := call.Wait(ctx)
		if err != nil {
			return err
		}
		if p.kind == typeStatus {
			err := call.unexpected(p)
			var status *StatusError
			if errors.As(err, &status) && status.Code == statusEOF {
				return nil
			}
			return err
		}
		for len(pages) < listAhead {
			pages = append(pages, next())
		}
		r := reader{b: p.body}
		n := r.uint32()
		if p.kind != typeName || r.err != nil || n == 0 {
			return call.wrap(errProtocol)
		}
		for ; n > 0; n-- {
			name, _ := r.string(), r.string() // the second is for people
			e := Entry{name, r.attrs()}
			if r.err != nil {
				return call.wrap(errProtocol)
			}
			if name == "." || name == ".." {
				continue
			}
			if err := fn(e); err != nil {
				return err
			}
		}
	}
	return nil
}
