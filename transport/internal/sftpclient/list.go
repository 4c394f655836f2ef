package sftpclient

import (
	"context"
	"errors"
	"fmt"
)

// listAhead is how many pages of a folder are asked for at once. A page of
// OpenSSH's holds a hundred names.
const listAhead = 16

// A folder with more names than maxNames is given up, and a name of more than
// maxName bytes is none: whoever keeps what is listed keeps it in memory, and a
// hostile server can go on for ever.
const (
	maxNames = 4 << 20
	maxName  = 4096
)

// errEndless is the end of a listing that goes beyond maxNames.
var errEndless = fmt.Errorf("the folder has more than %d names: more than walship lists", maxNames)

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
	names := 0
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
			if r.err != nil || len(name) > maxName {
				return call.wrap(errProtocol)
			}
			if names++; names > maxNames {
				return call.wrap(errEndless)
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
