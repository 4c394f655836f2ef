package archive

import (
	"context"

	"walship/internal/async"
	"walship/transport"
)

// listInOrder lists folders, several at once, and hands the entries of each to
// fn, in the order of the folders and sorted by name. A folder that is gone is
// empty. An error of fn ends it and is returned.
func listInOrder(ctx context.Context, s Reader, dirs []string, fn func(dir string, entries []transport.FileInfo) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t := &taker{Reader: s}
	var ahead []*async.Result[[]transport.FileInfo]
	next := 0
	for i, dir := range dirs {
		for ; next < len(dirs) && next < i+listAhead; next++ {
			name := dirs[next]
			ahead = append(ahead, async.Go(func() ([]transport.FileInfo, error) { return t.list(ctx, name) }))
		}
		entries, err := ahead[0].Wait()
		ahead = ahead[1:]
		if err == nil {
			err = fn(dir, entries)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
