package main

import (
	"fmt"
	"net"
	"net/url"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/internal/config"
)

// broker returns the message broker that the configuration names, nil if it
// names none.
func (a *app) broker() (*blueapi.Broker, error) {
	c, err := a.config()
	if err != nil || !c.Stomp.Enabled {
		return nil, err
	}
	return brokerOf(c.Stomp)
}

func brokerOf(s config.Stomp) (*blueapi.Broker, error) {
	u, err := url.Parse(s.URL) // which config.Load has checked
	if err != nil {
		return nil, err
	}
	if u.Hostname() == "" || u.Port() == "" {
		return nil, fmt.Errorf("stomp.url: %q lacks the host or the port; write tcp://HOST:61613", u.Redacted())
	}
	return &blueapi.Broker{
		Address: net.JoinHostPort(u.Hostname(), u.Port()),
		Login:   s.Username, Passcode: s.Password,
	}, nil
}
