package testbin

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Clean runs after the tests, so this is where it is looked at.
func TestMain(m *testing.M) {
	m.Run()
	dir, err := folder()
	if err != nil {
		panic(err)
	}
	Clean()
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		panic(dir + " is left behind")
	}
}

func TestBuildsOnceForEveryone(t *testing.T) {
	path := Walship(t)
	if Walship(t) != path || Faulty(t) == path {
		t.Errorf("%s is not the only one of its kind", path)
	}
	for _, path := range []string{path, Faulty(t), filepath.Dir(path)} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o755 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
	}
	if out, err := exec.Command(path, "version").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
