// Package e2e tests scanlogin from outside: the real program, two instances of it on one
// real PostgreSQL, a simulated WeChat, and a real browser. It knows nothing of the inside,
// so what it shows is what the outside world can rely on.
package e2e
