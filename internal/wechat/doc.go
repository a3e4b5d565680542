// Package wechat speaks with a WeChat Official Account in both directions: it
// calls the account's API (access token, QR codes) and reads, answers and
// forwards what WeChat pushes to the account's callback URL. Check tells the
// account's owner which setting keeps the two apart.
//
// It knows nothing of what a scan is used for. No error of this package holds
// an app secret, access token, callback token, openid, ticket or query string,
// so all of them can be logged.
package wechat
