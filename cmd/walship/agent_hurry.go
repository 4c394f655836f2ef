package main

import (
	"context"
	"fmt"
	"time"

	"walship/transport"
)

// agentShare is the part of a hasty call's time for which the agent's connection
// may be silent. Then the call tries by itself, on a connection of its own, with
// all of its time: the agent's may have died unnoticed.
const agentShare = 4

// hasty reports whether a call allows an archive less than the connection does.
func hasty(silence time.Duration) bool { return silence > 0 && silence < silencePatient }

// hurry ends what a call does with an archive once the server has let anything on
// the shared connection wait for the call's share of the time silence. That may be
// another call's slow fsync, or have begun before this call: of the many questions
// of a promotion only the first one shall wait for a connection that is dead. The
// first look is before hurry returns: what the call itself sends counts as a sign
// of life until nobody answers.
func hurry(ctx context.Context, remote connected, silence time.Duration, cancel context.CancelCauseFunc) {
	limit := silence / agentShare
	over := func() bool {
		if remote.Quiet() < limit {
			return false
		}
		cancel(fmt.Errorf("%w: no answer for %v", transport.ErrUnreachable, limit))
		return true
	}
	if over() {
		return
	}
	go func() {
		for !over() {
			select {
			case <-time.After(limit / 20):
			case <-ctx.Done():
				return
			}
		}
	}()
}

// hurried is one of several archives for one call: once it has been silent for too
// long, that archive fails and the others do not.
type hurried struct {
	store
	over context.Context // ends with the archive's time, and with the call
}

// hurried are the archives for one call.
func (w *worker) hurried(ctx context.Context, silence time.Duration) (all []named) {
	for _, a := range w.archives {
		if remote := a.remote(); remote != nil && hasty(silence) {
			over, cancel := context.WithCancelCause(ctx)
			hurry(ctx, remote, silence, cancel)
			a.store = hurried{a.store, over}
		}
		all = append(all, a)
	}
	return all
}

// in is ctx within the archive's time. It lasts as long as the call: an open file
// is read within it.
func (h hurried) in(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	context.AfterFunc(h.over, func() { cancel(context.Cause(h.over)) })
	return ctx
}

func (h hurried) Put(ctx context.Context, name string, src transport.Source) error {
	return h.store.Put(h.in(ctx), name, src)
}

func (h hurried) Head(ctx context.Context, name string, n int) (transport.Head, error) {
	return h.store.Head(h.in(ctx), name, n)
}

func (h hurried) Open(ctx context.Context, name string) (transport.File, error) {
	return h.store.Open(h.in(ctx), name)
}

func (h hurried) List(ctx context.Context, dir string, fn func(transport.FileInfo) error) error {
	return h.store.List(h.in(ctx), dir, fn)
}

func (h hurried) Mkdir(ctx context.Context, dir string) error {
	return h.store.Mkdir(h.in(ctx), dir)
}

func (h hurried) Move(ctx context.Context, from, to string) error {
	return h.store.Move(h.in(ctx), from, to)
}

func (h hurried) Sweep(ctx context.Context, dir string, age time.Duration) (int, error) {
	return h.store.Sweep(h.in(ctx), dir, age)
}

func (h hurried) Sync(ctx context.Context, name string) error {
	return h.store.Sync(h.in(ctx), name)
}
