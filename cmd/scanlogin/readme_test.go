package main

import (
	"cmp"
	"fmt"
	"os"
	"strings"
	"testing"

	"scanlogin/internal/config"
)

func TestReadmeListsEverySetting(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range config.Settings() {
		row := fmt.Sprintf("| `%s` | %s | %s |", s.Name, cmp.Or(s.Default, "empty"), s.Meaning)
		if !strings.Contains(string(readme), row+"\n") {
			t.Errorf("README lacks the row\n%s", row)
		}
	}
}
