package main

import (
	"cmp"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What the pages on security say is shown by a test is to be shown by one.
func TestSecurityIsShownByTestsThatExist(t *testing.T) {
	for _, page := range []string{"security.md", "asvs.md"} {
		named := namedTests(read(t, "../../docs/"+page))
		if len(named) < 20 {
			t.Errorf("%s: read the names of %d tests; has it another form now?", page, len(named))
		}
		for _, n := range named {
			if !strings.Contains(testsIn(t, n.dir), "\nfunc "+n.test+"(") {
				t.Errorf("%s: there is no %s in %s", page, n.test, n.dir)
			}
		}
	}
}

func TestEveryThreatIsShownByATest(t *testing.T) {
	_, table, _ := strings.Cut(read(t, "../../docs/security.md"), "\n| threat | what stops it | shown by | what is left |\n| --- | --- | --- | --- |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	rows := strings.Split(table, "\n")
	if len(rows) < 20 {
		t.Fatalf("%d threats; has the table another form now?", len(rows))
	}
	for _, row := range rows {
		if cells := strings.Split(row, " | "); len(cells) != 4 || len(namedTests(cells[2])) == 0 {
			t.Errorf("a threat without a test that shows what stops it:\n%s", row)
		}
	}
}

type namedTest struct{ test, dir string }

// namedTests reads `TestA`, `TestB` and `TestC` in ./DIR: A is in ./internal/e2e, as no
// other place is named, and B and C are in DIR.
func namedTests(text string) (all []namedTest) {
	const name = "`(?:Test|Fuzz)\\w+`"
	for _, m := range regexp.MustCompile("("+name+"(?: and "+name+")*)(?: in (\\./[\\w/]+))?").FindAllStringSubmatch(text, -1) {
		for test := range strings.SplitSeq(m[1], " and ") {
			all = append(all, namedTest{strings.Trim(test, "`"), cmp.Or(m[2], "./internal/e2e")})
		}
	}
	return all
}

// testsIn are the tests of a package, as they are written.
func testsIn(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../..", dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, f := range files {
		all.WriteString(read(t, f))
	}
	return all.String()
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
