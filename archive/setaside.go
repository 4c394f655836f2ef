package archive

import (
	"context"
	"errors"
	"fmt"

	"walship/internal/pgdata"
	"walship/internal/stored"
	"walship/transport"
)

// SetAside stores the file at path under refused/ and lets exactly that content
// pass: a later Push of it succeeds without storing anything under its name. It
// is the way on when PostgreSQL waits for a file that push rightly refuses.
func (p *Pusher) SetAside(ctx context.Context, data *pgdata.Dir, path, name string) (storedAs string, err error) {
	f, err := openFile(data, path, name)
	if err != nil {
		return "", err
	}
	defer f.close()
	return p.storeAside(ctx, f)
}

// unlessSetAside returns the refusal, or nil if the administrator has set
// exactly this content aside.
func (p *Pusher) unlessSetAside(ctx context.Context, f *file, refusal error) error {
	if errors.Is(refusal, ErrLocal) {
		return refusal // nothing was refused
	}
	p.refuses(refusal)
	if sum, err := f.sum(); err == nil {
		stem := f.cluster.SetAside(f.name, sum)
		look := p.lookup(ctx, f, stem)
		for i, codec := range stored.Written() {
			found, err := p.storedSum(ctx, f, stem+codec.Extension(), look.files[i])
			if err == nil && found == sum {
				err = p.Store.Sync(ctx, stem+codec.Extension())
			}
			if err == nil && found == sum {
				p.Warn(fmt.Sprintf("%s has been set aside as %s and is let pass: %v", f.name, stem+codec.Extension(), refusal))
				return nil
			}
		}
	}
	if transport.Hint(refusal) == "" {
		return transport.WithHint(refusal, "PostgreSQL keeps the file and archives nothing behind it; when it is clear that it is not needed: walship set-aside "+f.name.String())
	}
	return refusal
}
