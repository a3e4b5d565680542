package web

import (
	"bytes"
	"image"
	"image/color"
	"image/png"

	"github.com/boombuler/barcode/qr"
)

// A module is modulePixels wide, with a margin of quietZone modules around the code
// (ISO/IEC 18004 asks for four).
const (
	modulePixels = 8
	quietZone    = 4
)

// drawQR draws content as a PNG of one bit a pixel: about 1 KB, sharp on a screen and
// large enough to be saved and scanned from an album.
func drawQR(content string) ([]byte, error) {
	code, err := qr.Encode(content, qr.M, qr.Auto)
	if err != nil {
		return nil, err
	}
	n := code.Bounds().Dx()
	side := (n + 2*quietZone) * modulePixels
	img := image.NewPaletted(image.Rect(0, 0, side, side), color.Palette{color.White, color.Black})
	for y := range n {
		for x := range n {
			if r, _, _, _ := code.At(x, y).RGBA(); r == 0 {
				fillModule(img, x+quietZone, y+quietZone)
			}
		}
	}
	var b bytes.Buffer
	err = (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(&b, img)
	return b.Bytes(), err
}

func fillModule(img *image.Paletted, x, y int) {
	for dy := range modulePixels {
		start := img.PixOffset(x*modulePixels, y*modulePixels+dy)
		for i := range modulePixels {
			img.Pix[start+i] = 1
		}
	}
}
