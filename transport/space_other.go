//go:build !linux

package transport

import (
	"errors"
	"os"
)

func spaceOf(*os.File) (Space, error) { return Space{}, errors.ErrUnsupported }
