package login

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
)

// PersonOf names a WeChat user in logs: the first eight bytes of SHA-256 of appid, a space and
// openid, in hex. The database's function person does the same.
func PersonOf(appID, openID string) string {
	b := append(make([]byte, 0, 96), appID...)
	sum := sha256.Sum256(append(append(b, ' '), openID...))
	return hex.EncodeToString(sum[:8])
}

// log writes a line about a login, which is left out where none is known.
func (s *Service) log(ctx context.Context, message string, id ID, attrs ...slog.Attr) {
	if id != (ID{}) {
		attrs = append(attrs, slog.String("login", id.Short()))
	}
	s.Logger.LogAttrs(ctx, slog.LevelInfo, message, attrs...) //nolint:sloglint // static at each call
}
