package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"walship/internal/async"
	"walship/internal/layout"
	"walship/internal/stored"
	"walship/transport"
)

// lookup asks the archive, all at once, who it is and whether a file is there
// under any extension.
type lookup struct {
	stem     string
	identity *async.Result[layout.Identity]
	files    []*async.Result[transport.Head] // in the order of stored.Written
}

func (p *Pusher) lookup(ctx context.Context, f *file, stem string) *lookup {
	l := &lookup{stem: stem, identity: async.Go(func() (layout.Identity, error) { return p.owner(ctx, f) })}
	for _, codec := range stored.Written() {
		l.files = append(l.files, async.Go(func() (transport.Head, error) {
			return p.Store.Head(ctx, stem+codec.Extension(), stored.HeadSize)
		}))
	}
	return l
}

// errFound says that there is a file of that name already.
var errFound = errors.New("already there")

// absent is nil if no file is there.
func (l *lookup) absent() error {
	for _, file := range l.files {
		_, err := file.Wait()
		switch {
		case err == nil:
			return errFound
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	return nil
}

// errCodec says that the archive stores its files otherwise than was guessed.
type errCodec struct{ codec stored.Codec }

func (e errCodec) Error() string { return "the archive's codec is " + string(e.codec) }

// owner is nil if the archive is the cluster's, and keeps files as codec says.
func (l *lookup) owner(codec stored.Codec) error {
	id, err := l.identity.Wait()
	if err != nil {
		return err
	}
	if own := stored.Codec(id.Codec); own != codec {
		return errCodec{own}
	}
	return nil
}

// codec is how the archive, if it is the cluster's, keeps its files.
func (l *lookup) codec() (stored.Codec, error) {
	id, err := l.identity.Wait()
	return stored.Codec(id.Codec), err
}

// owner reads the identity of the archive and checks that it is that of f's
// cluster as it is now.
func (p *Pusher) owner(ctx context.Context, f *file) (layout.Identity, error) {
	id, err := p.identity(ctx, f.cluster)
	if size := f.geometry.SegmentSize; err == nil && size != 0 && size != id.SegmentSize {
		err = transport.WithHint(
			fmt.Errorf("%w: its segments have %d bytes, those of this cluster %d", ErrArchive, id.SegmentSize, size),
			"after pg_resetwal --wal-segsize the cluster needs a new archive: their names mean other places")
	}
	return id, err
}

// identity reads walship.json.
func (p *Pusher) identity(ctx context.Context, c layout.Cluster) (layout.Identity, error) {
	head, err := p.Store.Head(ctx, c.IdentityFile(), layout.MaxIdentitySize)
	if errors.Is(err, fs.ErrNotExist) {
		return layout.Identity{}, p.missing(ctx, c)
	}
	if err != nil {
		return layout.Identity{}, err
	}
	id, err := layout.ParseIdentity(head.Data, c)
	if err != nil {
		return id, transport.WithHint(fmt.Errorf("%w: %w", ErrArchive, err), layout.IdentityHint)
	}
	return id, nil
}

// missing finds the likely reason why the archive does not know the cluster.
func (p *Pusher) missing(ctx context.Context, c layout.Cluster) error {
	say := func(what, hint string) error {
		return transport.WithHint(fmt.Errorf("%w: %s", ErrArchive, what), hint)
	}
	var others []string
	own, empty := false, true
	err := p.Store.List(ctx, ".", func(e transport.FileInfo) error {
		empty = false
		if other, ok := layout.ParseFolder(e.Name); ok {
			if other == c {
				own = true
			} else {
				others = append(others, e.Name)
			}
		}
		return nil
	})
	const initialise = "if this is meant to be its archive, run in the data directory: walship init"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return say(fmt.Sprintf("its folder does not exist: %v", err), "is the disk mounted? if the archive is new, run in the data directory: walship init")
	case err != nil:
		return err
	case own:
		return say(fmt.Sprintf("%s is missing in it", c.IdentityFile()), "the archive was begun and not finished, or damaged; walship init puts the file back")
	case len(others) > 0:
		return say(fmt.Sprintf("it holds cluster %s and nothing of cluster %d", strings.Join(others, ", "), c.SystemID),
			"after initdb or pg_upgrade a cluster is a new one; "+initialise)
	case empty:
		return say("its folder is empty", "is the disk mounted? if the archive is new, run in the data directory: walship init")
	}
	return say(fmt.Sprintf("it holds nothing of cluster %d", c.SystemID), initialise)
}

// match is what is found out about files that are already there.
type match int

const (
	nothing match = iota // there is none, or it was damaged and has been moved away
	same                 // this very content is there, on stable storage
	other                // other content is there
)

// compare looks at the stored files that were found. With mend a damaged one is moved to
// refused/ and reported, so that the content can be stored again; without, it
// counts as none. One that was cut short and whose record names other content is
// other content. The SHA-256 is that of the content that was found.
func (p *Pusher) compare(ctx context.Context, f *file, look *lookup, mend bool) (match, [32]byte, error) {
	sum, err := f.sum()
	if err != nil {
		return nothing, sum, err
	}
	result := nothing
	var theirs [32]byte
	for i, codec := range stored.Written() {
		name := look.stem + codec.Extension()
		found, err := p.storedSum(ctx, f, name, look.files[i])
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case errors.Is(err, stored.ErrDamaged) && (found == [32]byte{} || found == sum):
			if !mend {
				continue
			}
			if err := p.moveDamaged(ctx, f, name, err); err != nil {
				return nothing, sum, err
			}
			continue
		case errors.Is(err, stored.ErrDamaged):
			result, theirs = other, found
			continue
		case err != nil:
			return nothing, sum, err
		case found != sum:
			result, theirs = other, found
			continue
		}
		// Another writer may have published it without having synced it yet.
		if err := p.Store.Sync(ctx, name); err != nil {
			return nothing, sum, err
		}
		if codec == stored.Plain {
			if err := p.Store.Sync(ctx, layout.Voucher(look.stem, sum)); err != nil {
				return nothing, sum, err
			}
		}
		if result == nothing {
			result, theirs = same, sum
		}
	}
	return result, theirs, nil
}

// storedSum is the SHA-256 of a stored file's content: from its own record if
// it has one and its size agrees with it, else from reading it. A file that was
// cut short is damaged, and its record still tells what it was.
func (p *Pusher) storedSum(ctx context.Context, f *file, name string, asked *async.Result[transport.Head]) ([32]byte, error) {
	var none [32]byte
	head, err := asked.Wait()
	if err != nil {
		return none, err
	}
	record, err := stored.ParseHead(head.Data, head.Size)
	switch {
	case errors.Is(err, stored.ErrNoRecord) && stored.CodecOf(name) == stored.Plain:
		return p.plainSum(ctx, f, name)
	case errors.Is(err, stored.ErrNoRecord):
		return none, fmt.Errorf("%w: it carries no record", stored.ErrDamaged)
	case record.Name == "":
		return none, err
	case record.Name != f.name.String() || record.SystemID != f.cluster.SystemID:
		return none, fmt.Errorf("%w: its record says that it is %s of cluster %d", stored.ErrDamaged, record.Name, record.SystemID)
	default:
		return record.SHA256, err
	}
}

// plainSum is the SHA-256 of a file that is stored plain: read whole, for which
// there must be a voucher.
func (p *Pusher) plainSum(ctx context.Context, f *file, name string) (sum [32]byte, err error) {
	remote, err := p.Store.Open(ctx, name)
	if err != nil {
		return sum, err
	}
	defer remote.Close()
	content, err := stored.Decode(stored.Source(remote), remote.Size(), stored.Plain, max(f.size, maxSmall))
	if err != nil {
		return sum, err
	}
	defer content.Close()
	n, err := io.Copy(io.Discard, content)
	if err != nil {
		return sum, err
	}
	if n == 0 || f.isSegment() && n != f.size {
		return sum, fmt.Errorf("%w: it holds %d bytes, the file has %d", stored.ErrDamaged, n, f.size)
	}
	_, err = p.Store.Head(ctx, layout.Voucher(name, content.Sum()), 0)
	if errors.Is(err, fs.ErrNotExist) {
		return sum, fmt.Errorf("%w: its content has SHA-256 %x, for which nothing vouches", stored.ErrDamaged, content.Sum())
	}
	return content.Sum(), err
}
