package config

import (
	"strings"
	"testing"
)

func TestMaskURL(t *testing.T) {
	for text, want := range map[string]string{
		"":                                 "",
		"file:///srv/wal":                  "file:///srv/wal",
		"sftp://backup/srv/wal":            "sftp://backup/srv/wal",
		"sftp://wal@backup/srv/wal":        "sftp://wal@backup/srv/wal",
		"sftp://wal@backup:2222/srv/wal":   "sftp://wal@backup:2222/srv/wal",
		"sftp://wal@backup:2222/srv/w@l":   "sftp://wal@backup:2222/srv/w@l",
		"sftp://backup:22/srv/w@l":         "sftp://backup:22/srv/w@l",
		"sftp://wal@[::1]:22/srv":          "sftp://wal@[::1]:22/srv",
		"sftp://wal:S3CRET@backup/srv/wal": "sftp://wal:***@backup/srv/wal",
		"sftp://wal:@backup/srv":           "sftp://wal:***@backup/srv",
		"sftp://:S3CRET@backup/srv":        "sftp://:***@backup/srv",
		"sftp://wal:S3CRET@backup:22/srv":  "sftp://wal:***@backup:22/srv",
		"sftp://wal:S3C@RET@backup/srv":    "sftp://wal:***@backup/srv",
		"sftp://wal:S3C/RET@backup/srv":    "sftp://wal:***@backup/srv",
		"sftp://wal:S3C@/RET@backup/srv":   "sftp://wal:***@backup/srv",
		"sftp://w@l:S3C/RET@backup/srv":    "sftp://w@l:***@backup/srv",
		"sftp://wal:S3C#RE?T@backup/srv":   "sftp://wal:***@backup/srv",
		"sftp://wal:22222@backup/srv":      "sftp://wal:***@backup/srv",
		"wal:S3CRET@backup:/srv":           "wal:***@backup:/srv",
		"sftp//wal:S3CRET@backup/srv":      "sftp//wal:***@backup/srv",
		"sftp://wal%3AS3CRET@backup/srv":   "sftp://wal:***@backup/srv",
		"sftp://wal%3aS3CRET@backup/srv":   "sftp://wal:***@backup/srv",
		"sftp://backup/srv?key=S3CRET":     "sftp://backup/srv?***",
		"sftp://backup/srv#S3CRET":         "sftp://backup/srv#***",
		"wal:S3C://RET@backup:/srv":        "wal:***@backup:/srv",
	} {
		got := MaskURL(text)
		if got != want {
			t.Errorf("MaskURL(%q) = %q, want %q", text, got, want)
		}
		if strings.Contains(got, "S3C") || strings.Contains(got, "RET") {
			t.Errorf("MaskURL(%q) = %q shows the password", text, got)
		}
		if MaskURL(got) != got {
			t.Errorf("MaskURL(%q) = %q, not itself", got, MaskURL(got))
		}
	}
}
