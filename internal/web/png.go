package web

import (
	"bytes"
	"encoding/binary"
	"hash/adler32"
	"hash/crc32"
	"math/bits"

	"rsc.io/qr/coding"
)

// modulePixels is how wide a module is: two modules are a byte of a row. The page enlarges
// the picture in whole squares.
const modulePixels = 4

// margin is the modules around a code that ISO/IEC 18004 asks for.
const margin = 4

// largestPNG is the version up to which a row of modules is a row of pixels and one match.
const largestPNG = 35

// writePNG draws a code with a bit a pixel. It knows that the picture is squares, which
// makes it five times as fast as what works for any.
func writePNG(code *coding.Code) []byte {
	width := uint32(code.Size+2*margin) * modulePixels
	b := []byte("\x89PNG\r\n\x1a\n")
	header := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, width), width)
	b = appendChunk(b, "IHDR", append(header, 1, 0, 0, 0, 0)) // bits a pixel, grey, and the only methods
	b = appendChunk(b, "IDAT", deflate(code))
	return appendChunk(b, "IEND", nil)
}

func appendChunk(b []byte, name string, data []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	from := len(b)
	b = append(append(b, name...), data...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[from:]))
}

// deflate is the pixels as zlib has them (RFC 1950), in one block with the fixed codes of
// RFC 1951: of the equal rows that make a row of modules, the first, and that it is repeated.
func deflate(code *coding.Code) []byte {
	w := bitWriter{bytes: append(make([]byte, 0, 1<<10), 0x78, 0x01)}
	w.write(1, 1) // the last block
	w.write(1, 2) // fixed codes
	sum := adler32.New()
	row := make([]byte, 1+(code.Size+2*margin+1)/2) // its filter first: none
	last := make([]byte, len(row))
	for y := -margin; y < code.Size+margin; y++ {
		drawRow(row[1:], code, y)
		if bytes.Equal(row, last) {
			w.repeat(len(row), len(row))
		} else {
			for _, v := range row {
				w.symbol(int(v))
			}
		}
		w.repeat((modulePixels-1)*len(row), len(row))
		for range modulePixels {
			_, _ = sum.Write(row) // a hash takes everything
		}
		row, last = last, row
	}
	w.symbol(256) // the end
	w.write(0, 7) // up to a whole byte
	return sum.Sum(w.bytes)
}

// drawRow draws two modules a byte; white is 1.
func drawRow(row []byte, code *coding.Code, y int) {
	for i := range row {
		row[i] = 0xff
		x := 2*i - margin
		if code.Black(x, y) {
			row[i] &= 0x0f
		}
		if code.Black(x+1, y) {
			row[i] &= 0xf0
		}
	}
}

// bitWriter packs bits as RFC 1951 does, the lowest first.
type bitWriter struct {
	bytes []byte
	left  uint64 // what is no whole byte yet
	n     int
}

func (w *bitWriter) write(v uint64, n int) {
	w.left |= v << w.n
	for w.n += n; w.n >= 8; w.n -= 8 {
		w.bytes = append(w.bytes, byte(w.left))
		w.left >>= 8
	}
}

// code writes a Huffman code, whose highest bit comes first.
func (w *bitWriter) code(v, n int) { w.write(uint64(bits.Reverse16(uint16(v))>>(16-n)), n) }

// symbol writes a byte, the end, or a length: RFC 1951, section 3.2.6.
func (w *bitWriter) symbol(v int) {
	switch {
	case v < 144:
		w.code(0x30+v, 8)
	case v < 256:
		w.code(0x190+v-144, 9)
	case v < 280:
		w.code(v-256, 7)
	default:
		w.code(0xc0+v-280, 8)
	}
}

// repeat writes that length bytes, 3 to 257, are those from distance before: section 3.2.5.
func (w *bitWriter) repeat(length, distance int) {
	v := uint(length - 3)
	more := max(0, bits.Len(v)-3)
	w.symbol(257 + 4*more + int(v>>more))
	w.write(uint64(v&(1<<more-1)), more)
	v = uint(distance - 1)
	more = max(0, bits.Len(v)-2)
	w.code(2*more+int(v>>more), 5)
	w.write(uint64(v&(1<<more-1)), more)
}
