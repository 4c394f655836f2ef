package pgserver

import (
	"context"
	"io"
)

// CopyOut runs a COPY … TO STDOUT, writes its data to w, and returns the number
// of rows. An error is like those of Query.
func (c *Conn) CopyOut(ctx context.Context, w io.Writer, sql string) (rows int64, err error) {
	tag, err := c.pg.CopyTo(ctx, w, sql)
	if err != nil {
		return 0, c.to.explain(ctx, err)
	}
	return tag.RowsAffected(), nil
}
