package wechat

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
)

// The frame of an encrypted message: random(16) + length(4) + message + appid,
// padded by PKCS#7 to 32, although the blocks of AES have 16 bytes.
const (
	randomSize   = 16
	lengthSize   = 4
	paddingSize  = 32
	aesKeyLength = 43
)

var (
	// ErrCiphertext is what Decrypt says of anything that is not a message
	// encrypted with this key. It tells nothing about which check failed: an
	// answer that did would be a padding oracle.
	ErrCiphertext = errors.New("malformed ciphertext")
	// ErrForeignAppID is what Decrypt says of a message that was encrypted with
	// this key for another account.
	ErrForeignAppID = errors.New("message for another appid")
)

// Sign returns the lower-case hexadecimal SHA-1 of the parts, sorted and
// joined: WeChat's "signature" over token, timestamp and nonce, and its
// "msg_signature" over those and the encrypted message.
//
// Source: developers.weixin.qq.com/doc/subscription/guide/dev/push/encryption.html
func Sign(parts ...string) string {
	signature := sign(parts)
	return string(signature[:])
}

func sign(parts []string) (signature [2 * sha1.Size]byte) {
	sorted := append(make([]string, 0, 4), parts...)
	slices.Sort(sorted)
	joined := make([]byte, 0, 128)
	for _, part := range sorted {
		joined = append(joined, part...)
	}
	sum := sha1.Sum(joined)
	hex.Encode(signature[:], sum[:])
	return signature
}

// VerifySignature reports whether want is the signature of the parts. It takes
// the same time wherever the two differ.
//
// An empty part never verifies: an empty token is no secret, and with an empty
// message a msg_signature would be the plain signature, which is no proof of
// any body.
func VerifySignature(want string, parts ...string) bool {
	if slices.Contains(parts, "") {
		return false
	}
	signature := sign(parts)
	return subtle.ConstantTimeCompare([]byte(want), signature[:]) == 1
}

// Cipher encrypts and decrypts messages between WeChat and one account. It is
// safe for concurrent use.
type Cipher struct {
	block cipher.Block
	iv    []byte
	appID string
}

// NewCipher takes the EncodingAESKey of the account's settings, 43 characters
// of base64 without the padding, and the account's appid, which every message
// must name. The error says what is wrong with the key without repeating it.
func NewCipher(encodingAESKey, appID string) (*Cipher, error) {
	if n := len(encodingAESKey); n != aesKeyLength {
		return nil, fmt.Errorf("EncodingAESKey has %d characters, not %d", n, aesKeyLength)
	}
	if appID == "" {
		return nil, errors.New("empty appid")
	}
	// The decoder skips line breaks, which would make the key too short.
	// Lenient on purpose: most real keys have stray bits in their last
	// character, which Strict would refuse.
	key, err := base64.StdEncoding.DecodeString(encodingAESKey + "=")
	if err != nil || len(key) != 32 {
		return nil, errors.New("EncodingAESKey is not base64: only A-Z, a-z, 0-9, + and / may stand in it")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("EncodingAESKey: %w", err)
	}
	return &Cipher{block: block, iv: key[:aes.BlockSize], appID: appID}, nil
}

// Encrypt returns the message encrypted for the account, in base64. Random
// bytes in front make every result different.
func (c *Cipher) Encrypt(msg []byte) (string, error) {
	var random [randomSize]byte
	rand.Read(random[:]) // never fails: the runtime ends the program instead
	return c.seal(random, msg)
}

func (c *Cipher) seal(random [randomSize]byte, msg []byte) (string, error) {
	if uint64(len(msg)) > 1<<32-1 {
		return "", fmt.Errorf("message of %d bytes does not fit its frame", len(msg))
	}
	frame := make([]byte, 0, randomSize+lengthSize+len(msg)+len(c.appID)+paddingSize)
	frame = append(frame, random[:]...)
	frame = binary.BigEndian.AppendUint32(frame, uint32(len(msg)))
	frame = append(frame, msg...)
	frame = append(frame, c.appID...)
	pad := paddingSize - len(frame)%paddingSize
	for range pad {
		frame = append(frame, byte(pad))
	}
	cipher.NewCBCEncrypter(c.block, c.iv).CryptBlocks(frame, frame)
	return base64.StdEncoding.EncodeToString(frame), nil
}

// Decrypt returns the message in what WeChat sent as Encrypt. Whatever is not
// a message that was encrypted with this key is ErrCiphertext; one that names
// another appid is ErrForeignAppID.
//
// CBC carries no proof of who encrypted: verify msg_signature first.
func (c *Cipher) Decrypt(encrypt string) ([]byte, error) {
	frame, err := base64.StdEncoding.DecodeString(encrypt)
	if err != nil || len(frame) == 0 || len(frame)%paddingSize != 0 {
		return nil, ErrCiphertext
	}
	cipher.NewCBCDecrypter(c.block, c.iv).CryptBlocks(frame, frame)
	frame, ok := unpad(frame)
	if !ok || len(frame) < randomSize+lengthSize {
		return nil, ErrCiphertext
	}
	size := binary.BigEndian.Uint32(frame[randomSize:])
	rest := frame[randomSize+lengthSize:]
	if uint64(size) > uint64(len(rest)) {
		return nil, ErrCiphertext
	}
	msg, appID := rest[:size:size], rest[size:]
	if subtle.ConstantTimeCompare(appID, []byte(c.appID)) != 1 {
		return nil, ErrForeignAppID
	}
	return msg, nil
}

// unpad removes PKCS#7 padding to 32 bytes and checks each byte of it.
func unpad(frame []byte) ([]byte, bool) {
	pad := int(frame[len(frame)-1])
	if pad < 1 || pad > paddingSize {
		return nil, false
	}
	body, padding := frame[:len(frame)-pad], frame[len(frame)-pad:]
	for _, b := range padding {
		if int(b) != pad {
			return nil, false
		}
	}
	return body, true
}
