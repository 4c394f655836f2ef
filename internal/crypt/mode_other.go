//go:build !unix

package crypt

import "io/fs"

// allowed: elsewhere the bits say nothing.
func allowed(fs.FileInfo) fs.FileMode { return fs.ModePerm }
