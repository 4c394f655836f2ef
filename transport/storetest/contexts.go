package storetest

import (
	"context"
	"time"

	"walship/transport"
)

var contextTests = []test{
	{"cancelled", func(b *bench) {
		ctx, cancel := context.WithCancel(b.ctx)
		cancel()
		b.ended(ctx, context.Canceled)
	}},
	{"deadline passed", func(b *bench) {
		ctx, cancel := context.WithDeadline(b.ctx, time.Now().Add(-time.Second))
		defer cancel()
		b.ended(ctx, context.DeadlineExceeded)
	}},
}

// ended demands that everything fails with want once ctx has ended, that
// nothing has changed, and that the store works on with another context.
func (b *bench) ended(ctx context.Context, want error) {
	b.put(name, []byte("x"))
	b.is(b.s.Put(ctx, name+"2", source([]byte("y"))), want)
	_, err := b.s.Open(ctx, name)
	b.is(err, want)
	_, err = b.s.Head(ctx, name, 10)
	b.is(err, want)
	b.is(b.s.List(ctx, folder, func(transport.FileInfo) error { return nil }), want)
	b.is(b.s.Mkdir(ctx, cluster+"/new"), want)
	b.is(b.s.Move(ctx, name, name+"3"), want)
	b.is(b.s.Remove(ctx, name), want)
	b.is(b.s.RemoveFolder(ctx, folder), want)
	b.is(b.s.Sync(ctx, name), want)
	_, err = b.s.Sweep(ctx, cluster+"/tmp", time.Hour)
	b.is(err, want)
	_, err = b.s.Now(ctx, cluster)
	b.is(err, want)

	b.absent(name + "2")
	b.absent(name + "3")
	b.holds(name, []byte("x"))
	b.put(name+"2", []byte("y"))
	b.noTemp()
}
