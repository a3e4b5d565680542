package main

import "testing"

func TestTheSceneIsFoundInAPush(t *testing.T) {
	for body, want := range map[string]string{
		"<xml><EventKey><![CDATA[17]]></EventKey></xml>": "17",
		"<xml><EventKey><![CDATA[17":                     "",
		"<xml></xml>":                                    "",
	} {
		if got := bareScene([]byte(body)); got != want {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
}
