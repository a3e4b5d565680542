package config

import (
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/tabwriter"
)

// Setting describes one setting for people.
type Setting struct {
	Name     string // the environment variable, "SCENE_TTL"
	Flag     string // the flag without dashes, "scene-ttl"
	Default  string // the default, or words for it; "required"; empty where there is none
	Meaning  string // one line
	Example  string // a value, or words in parentheses for a secret
	Required bool   // by the commands that read it

	groups Group // 0: every command
	field  string
}

// Settings returns every setting in the order of [Config].
func Settings() []Setting { return settingsOf(All) }

// settingsOf returns the settings that a command of these groups reads.
func settingsOf(groups Group) []Setting {
	var settings []Setting
	for field := range reflect.TypeFor[Config]().Fields() {
		s := settingOf(field)
		if s.groups == 0 || s.groups&groups != 0 {
			settings = append(settings, s)
		}
	}
	return settings
}

func settingOf(field reflect.StructField) Setting {
	s := Setting{
		Name:     field.Tag.Get("env"),
		Default:  field.Tag.Get("envDefault") + field.Tag.Get("shown"),
		Meaning:  field.Tag.Get("meaning"),
		Example:  field.Tag.Get("example"),
		Required: field.Tag.Get("required") == "true",
		groups:   parseGroups(field.Tag.Get("groups")),
		field:    field.Name,
	}
	s.Flag = strings.ToLower(strings.ReplaceAll(s.Name, "_", "-"))
	if s.Required {
		s.Default = "required"
	}
	return s
}

func parseGroups(names string) Group {
	var g Group
	for name := range strings.FieldsSeq(names) {
		g |= map[string]Group{"database": Database, "wechat": WeChat, "deeds": Deeds, "web": Web, "accounts": Accounts}[name]
	}
	return g
}

// Usage writes the settings that a command of these groups reads, for people.
func Usage(w io.Writer, groups Group) error {
	var rows strings.Builder
	rows.WriteString("Settings, from the environment or as flags (--log-level for LOG_LEVEL); flags win:\n")
	for _, s := range settingsOf(groups) {
		fmt.Fprintf(&rows, "  %s\t%s\t%s\n", s.Name, s.Default, s.Meaning)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if _, err := io.WriteString(table, rows.String()); err != nil {
		return err
	}
	return table.Flush()
}
