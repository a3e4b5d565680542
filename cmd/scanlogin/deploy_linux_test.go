package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The unit is read by systemd itself; what it lets the service do is rated, from 0 (nothing) to 10.
func TestSystemdUnit(t *testing.T) {
	b := deployFile(t, "scanlogin.service")
	const binary = "/usr/local/bin/scanlogin"
	if !bytes.Contains(b, []byte("ExecStart="+binary+" serve\n")) {
		t.Fatal("the unit doesn't start " + binary)
	}
	unit := filepath.Join(t.TempDir(), "scanlogin.service")
	self, err := os.Executable() // verify wants a program that is there
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(unit, bytes.ReplaceAll(b, []byte(binary), []byte(self)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"verify", unit}, {"security", "--offline=yes", "--threshold=20", unit}} {
		out, err := exec.Command("systemd-analyze", args...).CombinedOutput()
		if err != nil || args[0] == "verify" && len(out) > 0 {
			t.Errorf("systemd-analyze %s: %v\n%s", args[0], err, out)
		}
	}
}
