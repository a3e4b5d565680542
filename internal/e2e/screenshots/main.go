// Command screenshots takes the pictures of the documentation from a world of its own:
// scanlogin dev on free ports, and a real browser. Its argument is the folder to write to.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"scanlogin/internal/e2e/chromium"
)

// site is the name that the pictures show; only this browser knows that it is here.
const site = "login.example.com"

const patience = time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "screenshots: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	if len(args) != 1 {
		return errors.New("the folder to write to is missing")
	}
	if err := os.MkdirAll(args[0], 0o755); err != nil {
		return err
	}
	w, err := startWorld(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.stop()) }()
	browser, closeBrowser, err := chromium.Start(ctx, chromedp.Flag("host-resolver-rules", "MAP "+site+" "+w.addr))
	if err != nil {
		return err
	}
	defer closeBrowser()
	return w.take(browser, args[0])
}

// take tells one login in pictures.
func (w *world) take(browser context.Context, dir string) error {
	desktop := picture{browser, dir, "en", 1040, 700, 2}
	phone := picture{browser, dir, "zh-CN", 390, 844, 2}
	// After two seconds the ring has grown to its full length.
	waiting := `document.getElementById('panel').dataset.state === 'waiting' && document.getElementById('left').textContent <= '02:58'`
	bind := `document.getElementById('panel').dataset.state === 'bind'`

	if err := phone.take("login-phone", "http://"+site+"/login", waiting); err != nil {
		return err
	}
	page, closePage, err := desktop.open("http://"+site+"/login", waiting)
	if err != nil {
		return err
	}
	defer closePage()
	if err := desktop.shoot(page, "login"); err != nil {
		return err
	}
	if err := w.scan(page, "小红"); err != nil {
		return err
	}
	if err := await(page, bind); err != nil {
		return err
	}
	if err := desktop.shoot(page, "bind"); err != nil {
		return err
	}
	err = chromedp.Do(page,
		chromedp.SendKeys(chromedp.CSS("#bind-username"), "alice"),
		chromedp.SendKeys(chromedp.CSS("#bind-password"), "alice-demo\r"))
	if err != nil {
		return err
	}
	if err := await(page, `location.pathname === '/user' && document.readyState === 'complete'`); err != nil {
		return err
	}
	if err := desktop.shoot(page, "user"); err != nil {
		return err
	}
	// Another code, so that the phone has one to scan.
	if _, closePage, err = desktop.open("http://"+site+"/login", waiting); err != nil {
		return err
	}
	defer closePage()
	wide := picture{browser, dir, "en", 1180, 760, 1.5}
	return wide.take("phone", "http://"+w.wechat+"/?user="+url.QueryEscape(w.openid), `document.querySelector('.reply .bubble') !== null`)
}

// picture says how a page is looked at.
type picture struct {
	browser       context.Context // chromedp keeps the browser in it
	dir           string
	language      string
	width, height int64
	scale         float64
}

func (p picture) take(name, address, ready string) error {
	page, closePage, err := p.open(address, ready)
	if err != nil {
		return err
	}
	defer closePage()
	return p.shoot(page, name)
}

// open opens a page in a window of its own and waits until it is ready.
func (p picture) open(address, ready string) (page context.Context, closePage func(), err error) {
	page, closePage = chromedp.NewContext(p.browser, chromedp.WithNewBrowserContext())
	defer func() {
		if err != nil {
			closePage()
		}
	}()
	if _, err = chromedp.Call(page, network.Enable, network.EnableParams{}); err != nil {
		return nil, nil, err
	}
	headers := network.SetExtraHTTPHeadersParams{Headers: network.Headers{"Accept-Language": p.language}}
	if _, err = chromedp.Call(page, network.SetExtraHTTPHeaders, headers); err != nil {
		return nil, nil, err
	}
	screen := []chromedp.EmulateViewportOption{chromedp.EmulateScale(p.scale)}
	if p.width < 500 { // a phone
		screen = append(screen, chromedp.EmulateMobile, chromedp.EmulateTouch)
	}
	if err = chromedp.Do(page, chromedp.EmulateViewport(p.width, p.height, screen...), chromedp.Navigate(address)); err != nil {
		return nil, nil, err
	}
	return page, closePage, await(page, ready)
}

// still holds when nothing moves any more but the ring that shows the time left.
const still = `document.fonts.status === 'loaded' && document.getAnimations().every((a) => a.playState !== 'running' || a.effect.target.closest('.ring'))`

// shoot writes what the page looks like now.
func (p picture) shoot(page context.Context, name string) error {
	if err := await(page, still); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	shot, err := chromedp.Run(page, chromedp.CaptureScreenshot())
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	img, err := png.Decode(bytes.NewReader(shot))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return write(filepath.Join(p.dir, name+".png"), img)
}

func write(path string, img image.Image) error {
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, fewColours(img)); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	fmt.Printf("%s: %d KB\n", path, (b.Len()+1023)/1024)
	return os.WriteFile(path, b.Bytes(), 0o644)
}

func await(page context.Context, condition string) error {
	ctx, cancel := context.WithTimeout(page, patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		// An error may only mean that the page is being exchanged.
		if ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](condition)); err == nil && ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", condition, ctx.Err())
		case <-tick.C:
		}
	}
}
