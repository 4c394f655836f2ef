package config

import (
	"path/filepath"
	"strings"
)

// Environ returns the variables with which another process of this user, in
// another working directory, comes to the same settings. They may hold a password.
func (c *Config) Environ() ([]string, error) {
	var env []string
	for _, v := range c.values {
		s := settingOf(v.Name)
		text := v.raw
		if v.Name == "config" {
			text = c.File
		}
		if text == "" || v.Origin == "default" && v.Name != "config" {
			continue
		}
		if s.path {
			absolute, err := filepath.Abs(text)
			if err != nil {
				return nil, err
			}
			text = absolute
		}
		env = append(env, s.Env()+"="+text)
	}
	return env, nil
}

// Essence is a text that differs where settings differ that decide how the
// archive is worked with, whatever their origin. It may hold a password.
func (c *Config) Essence() string {
	var b strings.Builder
	for _, v := range c.values {
		text := v.raw
		switch s := settingOf(v.Name); {
		case v.Name == "config" || v.Name == "agent" || v.Name == "agent_dir" || v.Name == "timeout":
			continue
		case s.path && text != "":
			if absolute, err := filepath.Abs(text); err == nil {
				text = absolute
			}
		}
		b.WriteString(v.Name + "=" + text + "\n")
	}
	return b.String()
}

func settingOf(name string) Setting {
	for _, s := range Settings() {
		if s.Name == name {
			return s
		}
	}
	return Setting{}
}
