// Package wechatsim is WeChat for a machine without WeChat: the server side API
// of one Official Account, the pushes that WeChat sends to the account's callback,
// and a phone page to scan QR codes with.
//
// [Server.Handler] serves the API under /cgi-bin, the phone page at / and its JSON
// endpoints under /sim. [Server.Scan] and its neighbours do from Go what the page
// does from a browser. [Server.SetFaults] brings the bad weather that the real
// platform has: error codes, slow answers, lost and repeated pushes.
//
// What it imitates is described at
// https://developers.weixin.qq.com/doc/service/guide/: access tokens
// (getAccessToken, getStableAccessToken), QR codes with parameters, event pushes,
// passive replies, customer-service texts and message encryption. Everything is held in memory.
package wechatsim
