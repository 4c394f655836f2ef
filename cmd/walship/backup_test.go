package main

import (
	"testing"

	"github.com/urfave/cli/v2"

	"walship/internal/pgserver"
)

func TestParseRate(t *testing.T) {
	for text, want := range map[string]int{"32": 32, "500k": 500, "20M": 20480, "1024M": 1 << 20,
		"": 0, "31": 0, "1025M": 0, "1G": 0, "-5M": 0, "5M5": 0, "M": 0, "99999999999999999999": 0, "9223372036854775807M": 0} {
		if got, err := parseRate(text); got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d, %v, want %d", text, got, err, want)
		}
	}
}

func TestServerParams(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string // "": an error
	}{
		{[]string{"--host", "a b", "-p", "5433", "-U", `o'neill\`}, `host='a b' port='5433' user='o\'neill\\'`},
		{[]string{"-d", "db"}, `dbname='db'`},
		{[]string{"--host", "x", "-d", "host=y user=z"}, `host='x' host=y user=z`},
		{[]string{"-d", "postgresql://u@h/"}, "postgresql://u@h/"},
		{[]string{"-d", "postgresql://u@h/", "-p", "1"}, ""},
		{[]string{"-p", "0"}, ""},
		{[]string{"-p", "65536"}, ""},
	} {
		var got pgserver.Params
		var err error
		app := &cli.App{Commands: []*cli.Command{{Name: "backup", Flags: serverFlags(), Action: func(x *cli.Context) error {
			got, err = serverParams(x)
			return nil
		}}}}
		if wrong := app.Run(append([]string{"walship", "backup"}, c.args...)); wrong != nil {
			t.Fatal(wrong)
		}
		if got.ConnString != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q: %q, %v, want %q", c.args, got.ConnString, err, c.want)
		}
	}
}
