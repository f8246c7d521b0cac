package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"sync/atomic"

	"github.com/adamant-go/adamant/internal/config"
)

// clientTLS is how a server is known, and what it is shown.
func clientTLS(files config.TLS) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if files.CA != "" {
		b, err := os.ReadFile(files.CA)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("%s holds no certificate in PEM", files.CA)
		}
	}
	if files.Cert != "" {
		cert, err := newCertificate(files)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{*cert.now.Load()}
	}
	return c, nil
}

// upstreamTransport is how a server is connected to; nil is net/http's way.
func upstreamTransport(files config.TLS) (*http.Transport, error) {
	if files == (config.TLS{}) {
		return nil, nil
	}
	c, err := clientTLS(files)
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	return &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: c}, nil
}

// certificate is one that is read again when its files are new.
type certificate struct {
	files config.TLS
	now   atomic.Pointer[tls.Certificate]
}

func newCertificate(files config.TLS) (*certificate, error) {
	c := &certificate{files: files}
	return c, c.reload()
}

func (c *certificate) reload() error {
	cert, err := tls.LoadX509KeyPair(c.files.Cert, c.files.Key)
	if err != nil {
		return fmt.Errorf("%s: %w", c.files.Cert, err)
	}
	c.now.Store(&cert)
	return nil
}

// serverTLS is what callers are shown.
func (c *certificate) serverTLS() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.now.Load(), nil },
	}
}

// loadTLS reads all files of certificates, to find what is wrong with them.
func (p *gatewayPlan) loadTLS() error {
	listeners := []config.Listener{p.Admin}
	for _, u := range p.Upstreams {
		if _, err := upstreamTransport(u.TLS); err != nil {
			return err
		}
		if _, err := brokerOfUpstream(u); err != nil {
			return err
		}
		listeners = append(listeners, u.HTTP, u.Stomp)
	}
	for _, l := range listeners {
		if l.TLS.Cert == "" {
			continue
		}
		if _, err := newCertificate(l.TLS); err != nil {
			return err
		}
	}
	return nil
}
