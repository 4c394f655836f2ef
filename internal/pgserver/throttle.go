package pgserver

import (
	"context"
	"time"
)

// throttle keeps reading to a rate. nil does nothing.
type throttle struct {
	ctx   context.Context
	rate  float64 // bytes a second
	began time.Time
	done  float64
}

func newThrottle(ctx context.Context, kB int) *throttle {
	return &throttle{ctx: ctx, rate: float64(kB) * 1024, began: time.Now()}
}

// wait counts n bytes and waits until that many were due.
func (t *throttle) wait(n int) error {
	if t == nil || n == 0 {
		return nil
	}
	t.done += float64(n)
	ahead := time.Duration(t.done/t.rate*float64(time.Second)) - time.Since(t.began)
	if ahead < 10*time.Millisecond {
		return nil
	}
	select {
	case <-time.After(ahead):
		return nil
	case <-t.ctx.Done():
		return context.Cause(t.ctx)
	}
}
