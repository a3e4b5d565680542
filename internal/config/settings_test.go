package config

import (
	"reflect"
	"strings"
	"testing"
)

// A misspelt tag would make a setting that nobody can set.
func TestEverySettingIsDescribed(t *testing.T) {
	if got, want := len(Settings()), reflect.TypeFor[Config]().NumField(); got != want {
		t.Errorf("%d settings, %d fields", got, want)
	}
	for _, s := range Settings() {
		if s.Name == "" || s.Meaning == "" || s.Example == "" || s.Name != strings.ToUpper(strings.ReplaceAll(s.Flag, "-", "_")) {
			t.Errorf("incomplete: %+v", s)
		}
		if s.groups == 0 && !strings.HasPrefix(s.Name, "LOG_") {
			t.Errorf("%s is in no group", s.Name)
		}
		field, _ := reflect.TypeFor[Config]().FieldByName(s.field)
		if isSecret := field.Type == reflect.TypeFor[Secret](); isSecret != holdsSecret(s) {
			t.Errorf("%s: is a Secret = %v, want %v", s.Name, isSecret, holdsSecret(s))
		}
	}
}

func TestExamplesAreGood(t *testing.T) {
	for _, s := range Settings() {
		dependent := s.Name == "COOKIE_DOMAIN" || s.Name == "PLACE_HEADER" || strings.HasPrefix(s.Name, "ACCOUNTS_") // on others
		if strings.HasPrefix(s.Example, "(") || dependent {
			continue
		}
		if _, err := loadWith(s.Name, s.Example); err != nil {
			t.Error(err)
		}
	}
}

func TestUsage(t *testing.T) {
	var all, database strings.Builder
	if err := Usage(&all, All); err != nil {
		t.Fatal(err)
	}
	if err := Usage(&database, Database); err != nil {
		t.Fatal(err)
	}
	for _, s := range Settings() {
		if !strings.Contains(all.String(), "  "+s.Name+" ") || !strings.Contains(all.String(), s.Default+"  ") || !strings.Contains(all.String(), s.Meaning+"\n") {
			t.Errorf("%s is missing or incomplete in:\n%s", s.Name, all.String())
		}
		if got, want := strings.Contains(database.String(), "  "+s.Name+" "), s.groups == 0 || s.groups&Database != 0; got != want {
			t.Errorf("usage of Database has %s = %v, want %v", s.Name, got, want)
		}
	}
}
