package retryhttp

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http/httptest"
	"testing"
	"testing/synctest"
)

// TestSealedConnectionTakesNothing: once a request was judged as not sent, it
// never is.
func TestSealedConnectionTakesNothing(t *testing.T) {
	client, server := net.Pipe()
	_ = server.Close()
	c := &countedConn{Conn: client}
	if !c.seal(0) {
		t.Fatal("nothing was written, and yet not sealed")
	}
	if n, err := c.Write([]byte("x")); n != 0 || !errors.Is(err, errSealed) {
		t.Errorf("wrote %d, %v", n, err)
	}
}

// TestWriteUnderWayIsNoProof: a connection that is being written to cannot be
// sealed, nor one that was.
func TestWriteUnderWayIsNoProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		c := &countedConn{Conn: client}
		go func() { _, _ = c.Write([]byte("x")) }()
		synctest.Wait()
		if c.seal(0) {
			t.Error("sealed in the midst of a write")
		}
		_, _ = server.Read(make([]byte, 1))
		synctest.Wait()
		if c.seal(0) || !c.seal(1) {
			t.Error("a byte was written")
		}
	})
}

// TestSharedConnectionsAreNotCounted: one that speaks HTTP/2 bears the requests of
// others.
func TestSharedConnectionsAreNotCounted(t *testing.T) {
	srv := httptest.NewUnstartedServer(nil)
	srv.StartTLS() // for its certificate
	defer srv.Close()
	for _, protocol := range []string{"h2", "http/1.1"} {
		client, server := net.Pipe()
		s := tls.Server(server, &tls.Config{Certificates: srv.TLS.Certificates, NextProtos: []string{protocol}})
		go func() { _ = s.Handshake() }()
		c := tls.Client(&countedConn{Conn: client}, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}})
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		if got := counted(c) != nil; got != (protocol == "http/1.1") {
			t.Errorf("%s: counted %v", protocol, got)
		}
		_, _ = client.Close(), server.Close()
	}
}
