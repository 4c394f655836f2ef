// Package lazyre compiles regular expressions when they are first used. A server
// starts walship for each segment, and most of those calls use none.
package lazyre

import (
	"regexp"
	"sync"
)

// MustCompile is regexp.MustCompile put off until the first call of what it
// returns, which may be called concurrently.
func MustCompile(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}
