package integration_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The threat model names tests that are there, and every line of it names one or
// says why there is none.
func TestThreatModel(t *testing.T) {
	page, err := os.ReadFile("../docs/threat-model.md")
	must(t, err)
	there := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	must(t, filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(text, -1) {
			there[string(m[1])] = true
		}
		return err
	}))
	named := regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+`)
	lines := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		tests := named.FindAllString(line, -1)
		for _, name := range tests {
			if !there[name] {
				t.Errorf("there is no %s: %s", name, line)
			}
		}
		if !strings.HasPrefix(line, "| ") || len(cells) < 3 || strings.HasPrefix(line, "| threat ") {
			continue
		}
		lines++
		if len(tests) == 0 && !strings.Contains(cells[len(cells)-1], "no test: ") {
			t.Errorf("neither a test nor why there is none: %s", line)
		}
	}
	if lines < 40 {
		t.Errorf("only %d lines", lines)
	}
	if readme, err := os.ReadFile("../README.md"); err != nil || !strings.Contains(string(readme), "docs/threat-model.md") {
		t.Errorf("the README does not lead there (%v)", err)
	}
}
