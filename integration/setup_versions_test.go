//go:build versions

package integration_test

import (
	"fmt"
	"testing"

	"walship/internal/testpg"
)

// The whole recipe on each version: what setup writes is accepted by its server.
func TestVersionsRecipe(t *testing.T) {
	for _, major := range []int{10, 12, 14, 16, 17, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			theRecipe(t, testpg.Options{Major: major}, false)
		})
	}
}
