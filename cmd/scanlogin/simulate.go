package main

import (
	"context"
	"flag"
	"log/slog"
	"net"
	"strings"

	"scanlogin/internal/config"
	"scanlogin/internal/wechatsim"
)

const callbackPath = "/wechat/callback"

// simulateOptions are the flags of `wechat simulate`.
type simulateOptions struct {
	addr      string
	callbacks string
	phone     string
}

func (o *simulateOptions) register(f *flag.FlagSet) {
	f.StringVar(&o.addr, "wechat-addr", ":8090", "simulate: where the simulator listens")
	f.StringVar(&o.callbacks, "callbacks", "", "simulate: the URLs that pushes go to in turn, with commas between them (default PUBLIC_URL"+callbackPath+")")
	f.StringVar(&o.phone, "phone-url", "", "simulate: where a phone finds the simulator, for what the QR codes lead to (default this machine's address)")
}

// simulate is WeChat alone, for instances that run elsewhere, until ctx ends. Whoever reaches it
// scans as anybody, so it says that it is for demos.
func (p program) simulate(ctx context.Context, cfg config.Config, o simulateOptions) error {
	logger := p.logger(cfg)
	phone, err := newServer(ctx, o.addr, "--wechat-addr", nil, logger)
	if err != nil {
		return err
	}
	defer phone.close()
	callbacks := []string{cfg.Origin() + callbackPath}
	if o.callbacks != "" {
		callbacks = strings.Split(o.callbacks, ",")
	}
	if o.phone == "" {
		o.phone = phoneURL(phone.addr())
	}
	sim, err := newSimulator(cfg, callbacks, o.phone, logger)
	if err != nil {
		return err
	}
	defer sim.Close()
	phone.Handler = sim.Handler()
	failed := make(chan error, 1)
	phone.start(failed)
	logger.WarnContext(ctx, "this is a simulated WeChat, for demos alone: whoever reaches it can scan as anybody",
		"addr", phone.addr(), "phone", o.phone, "callbacks", callbacks)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// newSimulator is the Official Account that cfg describes, with somebody who follows it and
// somebody who doesn't. Its pushes go to the callbacks in turn.
func newSimulator(cfg config.Config, callbacks []string, phone string, logger *slog.Logger) (*wechatsim.Server, error) {
	sim, err := wechatsim.New(wechatsim.Config{
		AppID:          cfg.WeChatAppID,
		AppSecret:      cfg.WeChatAppSecret.Reveal(),
		Token:          cfg.WeChatToken.Reveal(),
		EncodingAESKey: cfg.WeChatEncodingAESKey.Reveal(),
		CallbackURLs:   callbacks,
		PublicURL:      phone,
		Logger:         logger.With("instance", "wechat"),
	})
	if err != nil {
		return nil, err
	}
	sim.AddUser("小明", true)
	sim.AddUser("小红", false)
	return sim, nil
}

// phoneURL is where a phone in the same network finds the simulator that listens on addr.
func phoneURL(addr string) string {
	return "http://" + net.JoinHostPort(lanAddress(), port(addr))
}

// lanAddress is where a phone in the same network finds this machine.
func lanAddress() string {
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsPrivate() && n.IP.To4() != nil {
			return n.IP.String()
		}
	}
	return "localhost"
}
