package config

import (
	"errors"
	"fmt"
	"os/user"
	"path/filepath"
	"strings"
)

// path resolves "~/" with the home and a relative path with dir. With dir ""
// a relative path stays relative to the working directory.
func (l *loader) path(text, dir string) (string, error) {
	if text == "~" || strings.HasPrefix(text, "~/") {
		home, err := l.home()
		if err != nil {
			return "", err
		}
		return filepath.Join(home, text[1:]), nil
	}
	if strings.HasPrefix(text, "~") {
		return "", errors.New("another user's home is not looked up: write the whole path")
	}
	if filepath.IsAbs(text) {
		return filepath.Clean(text), nil
	}
	return filepath.Join(dir, text), nil
}

// home returns the home of the user: HOME, or what the system has on record,
// for PostgreSQL starts its commands without HOME.
func (l *loader) home() (string, error) {
	home, _ := l.LookupEnv("HOME")
	if home == "" {
		var err error
		if home, err = l.UserHome(); err != nil {
			return "", fmt.Errorf("no home folder for ~: HOME is not set, and %v", err)
		}
	}
	if !filepath.IsAbs(home) {
		return "", fmt.Errorf("no home folder for ~: %q is no absolute path", home)
	}
	return home, nil
}

// passwdHome returns the home in the passwd entry of the user.
func passwdHome() (string, error) {
	u, err := user.Current()
	if err != nil {
		return "", err
	}
	return u.HomeDir, nil
}
