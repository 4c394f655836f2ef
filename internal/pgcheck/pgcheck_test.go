package pgcheck

import (
	"slices"
	"strings"
	"testing"
)

// A sample has its share of the tables, to one, the same for the same seed, and
// is never empty.
func TestSample(t *testing.T) {
	taken := func(share float64, seed uint64, tables int) (which []int) {
		s := newSample(share, seed)
		for i := range tables {
			if s.takes() {
				which = append(which, i)
			}
		}
		return which
	}
	if got := len(taken(1, 0, 1000)); got != 1000 {
		t.Errorf("all: %d", got)
	}
	for seed := range uint64(200) {
		if got := len(taken(0.1, seed, 1000)); got < 99 || got > 101 {
			t.Errorf("seed %d: %d of 1000 at 10%%", seed, got)
		}
		if got := taken(0.001, seed, firsts+1); len(got) != 1 {
			t.Errorf("seed %d: %v of %d at 0.1%%", seed, got, firsts+1)
		}
	}
	if !slices.Equal(taken(0.1, 7, 500), taken(0.1, 7, 500)) {
		t.Error("the same seed takes others")
	}
	if slices.Equal(taken(0.1, 7, 500), taken(0.1, 8, 500)) {
		t.Error("another seed takes the same")
	}
}

// The report is that of pg_amcheck 15.
func TestProblems(t *testing.T) {
	var found []string
	o := Options{Found: func(p string) { found = append(found, p) }}
	n := o.problems(strings.NewReader(`heap table "postgres.public.t", block 3, offset 7, attribute 2:
    toast value 16400 missing chunk 3
btree index "postgres.public.t_pkey":
    ERROR:  item order invariant violated for index "t_pkey"
    DETAIL:  Lower index tid=(1,2) (points to heap tid=(0,1)).
`))
	want := []string{
		`heap table "postgres.public.t", block 3, offset 7, attribute 2: toast value 16400 missing chunk 3`,
		`btree index "postgres.public.t_pkey": ERROR:  item order invariant violated for index "t_pkey" DETAIL:  Lower index tid=(1,2) (points to heap tid=(0,1)).`,
	}
	if n != 2 || !slices.Equal(found, want) {
		t.Errorf("%d: %q", n, found)
	}
}

// A line that has no end yet, carriage returns between the counts, long lines.
func TestEachLine(t *testing.T) {
	var lines []string
	last := eachLine(strings.NewReader("1/2 relations\r2/2 relations\n\nerror: "+strings.Repeat("x", 1<<17)+"\nend"), func(l string) bool {
		lines = append(lines, l)
		return strings.HasSuffix(l, "relations")
	})
	if last != "end" || len(lines) != 4 {
		t.Errorf("%q, %d lines", last, len(lines))
	}
}

func TestConnString(t *testing.T) {
	if got := ConnString(`/a'b\c`, 5432, "the boss", `d'b`); got != `host='/a\'b\\c' port=5432 user='the boss' dbname='d\'b' sslmode=disable options=''` {
		t.Error(got)
	}
}
