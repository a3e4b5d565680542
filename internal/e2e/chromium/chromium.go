// Package chromium starts the browser that the end-to-end tests and the screenshots are
// made with.
package chromium

import (
	"context"
	"errors"
	"fmt"
	"os/exec"

	"github.com/chromedp/chromedp"
)

// ErrNotFound says that this machine has no Chromium, nor a relative of it.
var ErrNotFound = errors.New("no chromium, chromium-browser, google-chrome or google-chrome-stable in PATH; `make setup` installs one")

// Start starts a browser with a profile of its own that is gone when ctx ends or stop is
// called. The context it returns is the browser's first tab, to make others of:
// chromedp.NewContext(ctx, chromedp.WithNewBrowserContext()) is a window that shares no
// cookies with any other.
func Start(ctx context.Context, more ...chromedp.ExecAllocatorOption) (browser context.Context, stop func(), err error) {
	path, err := find()
	if err != nil {
		return nil, nil, err
	}
	ctx, closeAllocator := chromedp.NewExecAllocator(ctx, append(options(path), more...)...)
	ctx, closeBrowser := chromedp.NewContext(ctx)
	stop = func() {
		closeBrowser()
		closeAllocator()
	}
	if err := chromedp.Do(ctx); err != nil {
		stop()
		return nil, nil, fmt.Errorf("starting %s: %w", path, err)
	}
	return ctx, stop, nil
}

func find() (path string, err error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrNotFound
}

// options keep the browser from calling anybody but the pages it is sent to. The sandbox
// can't be had everywhere that tests run (as root, in a container), and the pages are ours.
func options(path string) []chromedp.ExecAllocatorOption {
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.Flag("headless", "new"), chromedp.Flag("hide-scrollbars", true), chromedp.Flag("mute-audio", true),
		chromedp.Flag("force-color-profile", "srgb"),
	}
	for _, flag := range []string{
		"disable-quic", "disable-background-networking", "disable-component-update", "disable-sync", "disable-extensions",
		"disable-default-apps", "disable-breakpad", "disable-dev-shm-usage", "disable-background-timer-throttling",
		"disable-backgrounding-occluded-windows", "disable-renderer-backgrounding", "metrics-recording-only",
	} {
		options = append(options, chromedp.Flag(flag, true))
	}
	return options
}
