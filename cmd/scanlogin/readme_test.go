package main

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"scanlogin/internal/config"
)

func TestEverySettingIsDocumented(t *testing.T) {
	readme, err := os.ReadFile("../../docs/settings.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range config.Settings() {
		row := fmt.Sprintf("| `%s` | %s | %s |", s.Name, cmp.Or(s.Default, "empty"), s.Meaning)
		if !strings.Contains(string(readme), row+"\n") {
			t.Errorf("docs/settings.md lacks the row\n%s", row)
		}
	}
}

// The Chinese README names the settings that most need, with their defaults.
func TestChineseReadmeNamesSettingsThatExist(t *testing.T) {
	readme, err := os.ReadFile("../../docs/README.zh-CN.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\| (.*?) \\|").FindAllStringSubmatch(string(readme), -1)
	if len(rows) < 10 {
		t.Fatalf("%d settings", len(rows))
	}
	settings := config.Settings()
	for _, row := range rows {
		i := slices.IndexFunc(settings, func(s config.Setting) bool { return s.Name == row[1] })
		if i < 0 {
			t.Errorf("there is no %s", row[1])
			continue
		}
		want := map[string]string{"required": "必填", "": "空"}[settings[i].Default]
		if want = cmp.Or(want, settings[i].Default); strings.Trim(row[2], "`") != want {
			t.Errorf("%s: %s, want %s", row[1], row[2], want)
		}
	}
}

// What the documents link to is there, down to the heading.
func TestDocumentsLinkToWhatIsThere(t *testing.T) {
	root := "../.."
	documents := []string{"README.md", "CHANGELOG.md"}
	err := filepath.WalkDir(filepath.Join(root, "docs"), func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".md") {
			name, _ := filepath.Rel(root, path) // below it
			documents = append(documents, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	links := 0
	for _, document := range documents {
		text, err := os.ReadFile(filepath.Join(root, document))
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(found[1], "://") {
				continue
			}
			links++
			file, heading, _ := strings.Cut(found[1], "#")
			path := filepath.Join(root, filepath.Dir(document), file)
			if file == "" {
				path = filepath.Join(root, document)
			}
			content, err := os.ReadFile(path)
			if info, e := os.Stat(path); e == nil && info.IsDir() {
				err = nil
			}
			if err != nil {
				t.Errorf("%s links to %s: %v", document, found[1], err)
			} else if heading != "" && !slices.Contains(anchors(string(content)), heading) {
				t.Errorf("%s links to %s: no such heading", document, found[1])
			}
		}
	}
	if links < 40 {
		t.Errorf("only %d links were found", links)
	}
}

// anchors are the names by which headings are linked to.
func anchors(document string) (names []string) {
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(document, -1) {
		name := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}
