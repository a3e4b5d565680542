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

// assets are the static files by name. The digest of them all stands in their addresses,
// as a folder, so that scripts import each other from within it.
type assets struct {
	files  map[string]asset
	digest string
}

type asset struct {
	name    string
	content []byte
	digest  string
}

func newAsset(name string, content []byte) asset { return asset{name, content, digestOf(content)} }

func digestOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:8])
}

func hashAssets(files fs.FS) (assets, error) {
	names, err := fs.Glob(files, "*.*")
	if err != nil {
		return assets{}, err
	}
	a := assets{files: map[string]asset{}}
	var all []byte
	for _, name := range names {
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return assets{}, err
		}
		a.files[name] = newAsset(name, content)
		all = append(all, content...)
	}
	a.digest = digestOf(all)
	return a, nil
}

// url is the address of an asset; where any has changed, all have new ones.
func (a assets) url(name string) string { return "/static/" + a.digest + "/" + name }

// What may be kept of an answer: for good where its address changes with it, else until
// somebody asks again.
const (
	keepForGood = "public, max-age=31536000, immutable"
	askAgain    = "no-cache"
)

// serve sends an asset, to be kept for good where the address has the digest.
func (a assets) serve(w http.ResponseWriter, r *http.Request) error {
	digest, name := path.Split(strings.TrimPrefix(r.URL.Path, "/static/"))
	f, ok := a.files[name]
	switch {
	case !ok || digest == "/" || strings.Count(digest, "/") > 1:
		return echo.ErrNotFound
	case digest == a.digest+"/":
		return f.send(w, r, keepForGood)
	}
	return f.send(w, r, askAgain) // also of a version that runs beside this one
}

// favicon is what browsers ask for on pages that name no icon.
func (a assets) favicon(w http.ResponseWriter, r *http.Request) error {
	return a.files["favicon.svg"].send(w, r, askAgain)
}

func (f asset) send(w http.ResponseWriter, r *http.Request, keep string) error {
	w.Header().Set("Cache-Control", keep)
	w.Header().Set("ETag", `"`+f.digest+`"`)
	http.ServeContent(w, r, f.name, time.Time{}, bytes.NewReader(f.content))
	return nil
}
