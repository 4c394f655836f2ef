package transport

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"syscall"

	"walship/transport/internal/sftpclient"
)

// removeAhead bounds the removals that are under way at once.
const removeAhead = 256

// RemoveAll removes files, and syncs each of their folders once, at the end. nil
// means that none of them is there any more, on stable storage; one that was
// absent before is fine, a folder is an error. They go in the order of names:
// when it is broken off, those that are gone are the first of them. gone is how
// many have gone, also with an error, absent ones included.
func (l *Local) RemoveAll(ctx context.Context, names []string) (gone int, err error) {
	root, err := l.openRoot(ctx, "remove", ".")
	if err != nil {
		return 0, err
	}
	defer root.Close()
	folders := map[string]bool{}
	remove := func(name string) error {
		if err := valid("remove", name); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return &fs.PathError{Op: "remove", Path: name, Err: err}
		}
		info, err := root.Lstat(name)
		if err == nil && info.IsDir() {
			err = &fs.PathError{Op: "remove", Path: name, Err: syscall.EISDIR}
		}
		if err == nil {
			err = root.Remove(name)
		}
		if err == nil {
			folders[path.Dir(name)] = true
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return l.explain(err)
	}
	for _, name := range names {
		if err = remove(name); err != nil {
			break
		}
		gone++
	}
	for dir := range folders {
		synced := l.syncFolder(root, dir)
		if errors.Is(synced, fs.ErrNotExist) { // removed since, with its entries
			continue
		}
		if err == nil {
			err = l.explain(synced)
		}
	}
	return gone, err
}

// RemoveAll removes files, many in one round trip, and syncs each of their
// folders once, at the end, as far as the Durability demands. nil means that none
// of them is there any more; one that was absent before is fine, a folder is an
// error. They are asked for in the order of names, a bounded number ahead of the
// answers: when it is broken off, those that are gone are the first of them,
// give or take that number. gone is how many are known to have gone, also with
// an error, absent ones included.
func (s *SFTP) RemoveAll(ctx context.Context, names []string) (gone int, err error) {
	for _, name := range names {
		if err := valid("remove", name); err != nil {
			return 0, err
		}
	}
	if len(names) == 0 {
		return 0, context.Cause(ctx)
	}
	err = s.try(ctx, func(c *session) error {
		gone = 0
		var folders []*folderSync
		defer func() {
			for _, f := range folders {
				f.close()
			}
		}()
		known := map[string]bool{}
		for _, name := range names {
			if dir := path.Dir(name); !known[dir] {
				known[dir] = true
				folders = append(folders, &folderSync{s: s, c: c, dir: dir, opening: []sftpclient.OpenCall{c.Open(s.path(dir), sftpclient.Read, 0)}})
			}
		}
		open := folders[:0]
		for _, f := range folders {
			err := f.wait(ctx)
			if errors.Is(err, fs.ErrNotExist) {
				if _, look := c.Stat(s.path(f.dir)).Attrs(ctx); errors.Is(look, fs.ErrNotExist) {
					continue // it holds nothing that could be removed
				}
			}
			if err := f.refused(err); err != nil {
				return err
			}
			open = append(open, f)
		}
		folders = open
		if gone, err = s.removeAll(ctx, c, names); err != nil {
			return err
		}
		var waits []func(context.Context) error
		for _, f := range folders {
			waits = append(waits, f.sync())
		}
		for _, wait := range waits {
			if err := wait(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	return gone, err
}

// removeAll keeps removeAhead removals under way. After an error it asks for no
// more and waits for those that it has asked for.
func (s *SFTP) removeAll(ctx context.Context, c *session, names []string) (gone int, first error) {
	var calls []*sftpclient.Call
	answer := func() {
		err := calls[0].OK(ctx)
		calls = calls[1:]
		switch {
		case err == nil || errors.Is(err, fs.ErrNotExist):
			gone++
		case first == nil && isLost(err):
			first = err
		case first == nil && s.appendOnly && errors.Is(err, fs.ErrPermission):
			first = WithHint(err, appendOnlyHint)
		case first == nil:
			first = s.why(ctx, c, err)
		}
	}
	for at := 0; at < len(names) && first == nil; {
		ahead := names[at:min(at+removeAhead, len(names))]
		if !c.openSSH { // others remove an empty folder too
			var looks []*sftpclient.Call
			for _, name := range ahead {
				looks = append(looks, c.Lstat(s.path(name)))
			}
			for i, look := range looks {
				attrs, err := look.Attrs(ctx)
				if err == nil && attrs.IsDir() && first == nil {
					first = fmt.Errorf("remove %s: it is a folder", s.path(ahead[i]))
					ahead = ahead[:i]
				}
			}
		}
		for _, name := range ahead {
			if len(calls) >= removeAhead {
				answer()
			}
			if first != nil && c.openSSH {
				break
			}
			calls = append(calls, c.Remove(s.path(name)))
			at++
		}
	}
	for len(calls) > 0 {
		answer()
	}
	return gone, first
}
