package config

// UsageError says that the command line can't be understood; a program exits
// with 2 then. Its text never shows a flag's value.
type UsageError struct{ reason string }

// Error is one line.
func (e *UsageError) Error() string { return e.reason }

// SettingError is what is wrong with one setting. [Load] joins one for each bad
// setting, in the order of [Config].
type SettingError struct {
	Setting Setting
	Reason  string // never shows a secret
}

// Error is one line: the variable, the flag, what is wrong and an example.
func (p *SettingError) Error() string {
	return p.Setting.Name + " (or --" + p.Setting.Flag + ") " + p.Reason +
		"; example: " + p.Setting.Name + "=" + p.Setting.Example
}
