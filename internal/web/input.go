package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
)

// input is what forms and JSON bodies may bring. Anything else in them is ignored, an
// openid above all.
type input struct {
	Username string `json:"username"`
	Password string `json:"password"`
	Next     string `json:"next"`
	Code     string `json:"code"`
}

// readInput reads what a login may bring.
func readInput(r *http.Request) (in input, err error) {
	err = readBody(r, &in, func(form url.Values) error {
		in = input{form.Get("username"), form.Get("password"), form.Get("next"), form.Get("code")}
		return nil
	})
	return in, err
}

// readBody reads a form, or a JSON object into v; an empty body changes nothing.
func readBody(r *http.Request, v any, readForm func(url.Values) error) (err error) {
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch mediaType {
	case "application/json":
		err = json.NewDecoder(r.Body).Decode(v)
		if errors.Is(err, io.EOF) {
			err = nil
		}
	case "application/x-www-form-urlencoded":
		if err = r.ParseForm(); err == nil {
			err = readForm(r.PostForm)
		}
	default:
		var n int
		if n, err = r.Body.Read(make([]byte, 1)); n > 0 {
			return errMediaType
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
	}
	if err != nil {
		return errBody(err)
	}
	return nil
}

// errBody says what was wrong with a body that could not be read.
func errBody(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return errTooLarge
	}
	return fmt.Errorf("%w: %w", errMalformed, err)
}

func writeJSON(w http.ResponseWriter, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, err = w.Write(append(b, '\n'))
	return err
}
