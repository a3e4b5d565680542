package web

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
)

// assets are the static files by name, with the digests that stand in their addresses.
type assets map[string]asset

type asset struct {
	content []byte
	digest  string
}

func hashAssets(files fs.FS) (assets, error) {
	a := assets{}
	names, err := fs.Glob(files, "*.*")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(content)
		a[name] = asset{content, hex.EncodeToString(sum[:8])}
	}
	return a, nil
}

// url is the address of an asset; a changed file has a new one.
func (a assets) url(name string) string { return "/static/" + name + "?v=" + a[name].digest }

// serve sends an asset, to be kept for good where the address has its digest.
func (a assets) serve(w http.ResponseWriter, r *http.Request) error {
	return a.send(w, r, strings.TrimPrefix(r.URL.Path, "/static/"))
}

// favicon is what browsers ask for on pages that name no icon.
func (a assets) favicon(w http.ResponseWriter, r *http.Request) error {
	return a.send(w, r, "favicon.svg")
}

func (a assets) send(w http.ResponseWriter, r *http.Request, name string) error {
	f, ok := a[name]
	if !ok {
		return echo.ErrNotFound
	}
	h := w.Header()
	h.Set("Cache-Control", "no-cache")
	if r.URL.Query().Get("v") == f.digest {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	h.Set("ETag", `"`+f.digest+`"`)
	http.ServeContent(w, r, path.Base(name), time.Time{}, bytes.NewReader(f.content))
	return nil
}
