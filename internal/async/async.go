// Package async runs something in the background and hands its outcome to
// whoever waits for it.
package async

import "context"

// Result is the outcome of a function that runs in the background. It may be
// waited for by several goroutines.
type Result[T any] struct {
	done  chan struct{}
	value T
	err   error
}

// Go calls run in a goroutine of its own.
func Go[T any](run func() (T, error)) *Result[T] {
	r := &Result[T]{done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.value, r.err = run()
	}()
	return r
}

// Wait returns what run has returned, once it has.
func (r *Result[T]) Wait() (T, error) {
	<-r.done
	return r.value, r.err
}

// WaitFor is Wait as long as ctx lasts; then the error is ctx's cause.
func (r *Result[T]) WaitFor(ctx context.Context) (T, error) {
	select {
	case <-r.done:
		return r.value, r.err
	default:
	}
	select {
	case <-r.done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// Done is closed once run has returned.
func (r *Result[T]) Done() <-chan struct{} { return r.done }
