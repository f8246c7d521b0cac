package stomp_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"testing"
	"time"
)

// certificate returns one for a host, signed by itself, and a pool that trusts it.
func certificate(t *testing.T, host string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{host}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// TestTLS: the name in the certificate must be that of the address; a connection
// then works, and ends, as without.
func TestTLS(t *testing.T) {
	for host, good := range map[string]bool{"broker.example": true, "other.example": false} {
		t.Run(host, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				cert, pool := certificate(t, host)
				listener, err := l.net.Listen("broker.example:61614")
				if err != nil {
					t.Fatal(err)
				}
				go l.broker.Serve(tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{cert}}))
				l.client.Address, l.client.TLS = "broker.example:61614", &tls.Config{RootCAs: pool}
				s := l.client.Open(t.Context(), events)
				defer s.Close()
				err = s.Subscribed(t.Context())
				if !good {
					if _, ok := errors.AsType[*tls.CertificateVerificationError](err); !ok {
						t.Errorf("got %v", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Hour)
				l.publish(2)
				time.Sleep(time.Second)
				want(t, s, "1", "2")
				l.broker.Disconnect()
				time.Sleep(time.Second)
				l.publish(1)
				time.Sleep(time.Second)
				want(t, s, "gap", "3")
			})
		})
	}
}

// TestTLSToABrokerWithout fails at once.
func TestTLSToABrokerWithout(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.client.TLS = &tls.Config{}
		_, err := l.client.Connect(t.Context())
		if _, ok := errors.AsType[tls.RecordHeaderError](err); !ok {
			t.Errorf("got %v", err)
		}
	})
}
