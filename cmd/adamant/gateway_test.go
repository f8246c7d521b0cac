package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/gateway"
)

// startedGateway is a gateway as a process of its own.
type startedGateway struct {
	cmd  *exec.Cmd
	dir  string            // of its journal, and of its records
	at   map[string]string // what its listeners are for, and where they are
	said *lockedText       // what it wrote to stdout and stderr
}

// startGateway starts a gateway before a server, with an admin listener, and waits until
// it serves.
func startGateway(t *testing.T, upstream string, args ...string) *startedGateway {
	t.Helper()
	return startGatewayIn(t, t.TempDir(), upstream, args...)
}

// startGatewayIn is startGateway with the journal of a directory.
func startGatewayIn(t *testing.T, dir, upstream string, args ...string) *startedGateway {
	t.Helper()
	args = append([]string{
		"gateway", "--upstream", upstream, "--listen", ":0", "--admin", ":0",
		"--records", filepath.Join(dir, "records"),
	}, args...)
	g := &startedGateway{cmd: exec.CommandContext(t.Context(), "adamant", args...), dir: dir, at: map[string]string{}, said: new(lockedText)}
	g.cmd.Env = append(os.Environ(), quickExit, "HOME="+dir, "XDG_STATE_HOME="+dir)
	g.cmd.Stderr = g.said
	out, err := g.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = g.cmd.Process.Kill()
		_ = g.cmd.Wait()
	})
	lines := bufio.NewReader(io.TeeReader(out, g.said))
	for g.at["admin"] == "" {
		line, err := lines.ReadString('\n')
		what, where, ok := strings.Cut(strings.TrimSpace(line), " ")
		if err != nil || !ok {
			t.Fatalf("%q, %v: %s", line, err, g.said)
		}
		g.at[what] = where
	}
	return g
}

// end tells it to end, which must succeed.
func (g *startedGateway) end(t *testing.T) {
	t.Helper()
	if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := g.cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, g.said)
	}
}

// simulatedAt is a simulated server at a port.
func simulatedAt(t *testing.T, s *sim.Server) (url string) {
	t.Helper()
	t.Cleanup(s.Close)
	addr, err := s.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return "http://" + addr
}

// fetch asks once.
func fetch(t *testing.T, method, url, body string, headers ...string) (status int, text string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// TestGatewayKeepsNoToken has a plan run with a token, and looks for that, and for the
// passwords of the configuration, in all that the gateway has said and kept.
func TestGatewayKeepsNoToken(t *testing.T) {
	t.Parallel()
	const token, password = "tok-5EcrEt", "pass-5EcrEt"
	s := sim.Server{Token: token}
	upstream := simulatedAt(t, &s)
	s.Inject(sim.When(sim.Request("PUT", "/worker/task"), sim.First(1, sim.LoseAnswer(sim.Reset))))
	s.Inject(sim.When(sim.Request("GET", "/plans"), sim.First(9, sim.Status(http.StatusServiceUnavailable))))
	g := startGateway(t, strings.Replace(upstream, "://", "://user:"+password+"@", 1), "--log", "json", "--stomp-upstream", "tcp://user:"+password+"@127.0.0.1:1")
	at := "http://" + g.at["http"]
	auth := []string{"Authorization", "Bearer " + token, "Cookie", "c=" + token}
	status, b := fetch(t, "POST", at+"/tasks", `{"name":"nap","params":{"seconds":0.1},"instrument_session":"cm12345-1"}`, auth...)
	var task struct {
		ID string `json:"task_id"`
	}
	if json.Unmarshal([]byte(b), &task) != nil || status != http.StatusCreated {
		t.Fatalf("%d %s", status, b)
	}
	if status, b := fetch(t, "PUT", at+"/worker/task", `{"task_id":"`+task.ID+`"}`, auth...); status != http.StatusOK {
		t.Errorf("%d %s", status, b)
	}
	if status, _ := fetch(t, "GET", at+"/plans?token="+token, "", auth...); status != http.StatusServiceUnavailable {
		t.Errorf("%d", status)
	}
	if status, _ := fetch(t, "GET", at+"/worker/state", "", "Authorization", "Bearer wrong-"+token); status != http.StatusUnauthorized {
		t.Errorf("%d with another token", status)
	}
	all := map[string]string{}
	for _, path := range []string{"/metrics", "/-/status", "/-/ready"} {
		_, all[path] = fetch(t, "GET", "http://"+g.at["admin"]+path, "")
	}
	g.end(t)
	all["what it said"] = g.said.String()
	err := fs.WalkDir(os.DirFS(g.dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(filepath.Join(g.dir, path))
		all[path] = string(b)
		return err
	})
	if err != nil || !strings.Contains(all["adamant/journal.db"]+all["adamant/journal.db-wal"], task.ID) || !strings.Contains(all["records"], "/worker/task") ||
		!strings.Contains(all["what it said"], `"deed":"settled"`) {
		t.Errorf("%v; it has kept nothing: %v", err, all)
	}
	for where, text := range all {
		for _, secret := range []string{token, password} {
			if strings.Contains(text, secret) {
				t.Errorf("%s in %s", secret, where)
			}
		}
	}
}

// TestGatewayWire sends what an attacker would to the listener itself: what reaches the
// server is one request or none, and the connection is not used again after doubt.
func TestGatewayWire(t *testing.T) {
	t.Parallel()
	var s sim.Server
	upstream := simulatedAt(t, &s)
	g := startGateway(t, upstream)
	const next = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, c := range map[string]struct {
		send   string
		status []int // of the answers; the connection is closed then
	}{
		"length and chunks": {
			"POST /worker/state HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + next, []int{405},
		},
		"two lengths":          {"POST /plans HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na" + next, []int{400}},
		"two lengths in one":   {"POST /plans HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 2\r\n\r\na" + next, []int{400}},
		"a negative length":    {"POST /plans HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n" + next, []int{400}},
		"a length with a plus": {"POST /plans HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na" + next, []int{400}},
		"another encoding":     {"POST /plans HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + next, []int{501}},
		"encoding disguised":   {"POST /plans HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + next, []int{400}},
		"a bare CR":            {"GET /plans HTTP/1.1\r\nHost: x\r\nA: b\rX: c\r\n\r\n" + next, []int{400}},
		"a NUL in a header":    {"GET /plans HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n" + next, []int{400}},
		"two hosts":            {"GET /plans HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n" + next, []int{400}},
		"no host":              {"GET /plans HTTP/1.1\r\n\r\n" + next, []int{400}},
		"a bad chunk":          {"POST /plans HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + next, []int{400}},
		"a space in the path":  {"GET /pl ans HTTP/1.1\r\nHost: x\r\n\r\n" + next, []int{400}},
		"too large a header":   {"GET /plans HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", 80<<10) + "\r\n\r\n" + next, []int{431}},
		"another protocol":     {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + next, []int{404}},
	} {
		t.Run(name, func(t *testing.T) {
			c2, err := new(net.Dialer).DialContext(t.Context(), "tcp", g.at["http"])
			if err != nil {
				t.Fatal(err)
			}
			defer c2.Close()
			go func() { _, _ = io.WriteString(c2, c.send) }()
			var got []int
			for r := bufio.NewReader(c2); ; {
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					break
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				got = append(got, resp.StatusCode)
			}
			if fmt.Sprint(got) != fmt.Sprint(c.status) {
				t.Errorf("%v, not %v", got, c.status)
			}
		})
	}
	// What is folded is one line for the server.
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", g.at["http"])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET /plans HTTP/1.1\r\nHost: x\r\nConnection: close\r\nA: b\r\n Smuggled: c\r\n\r\n")
	_, _ = io.Copy(io.Discard, c)
	folded := 0
	for _, x := range s.Exchanges() {
		if x.URL.Path == "/smuggled" || x.Header.Get("Smuggled") != "" {
			t.Error("a request or a header was smuggled")
		}
		if x.Header.Get("A") == "b Smuggled: c" {
			folded++
		}
	}
	if folded != 1 {
		t.Errorf("the folded header arrived %d times", folded)
	}
}

// TestGatewayAdmin: web pages and other machines have no business there.
func TestGatewayAdmin(t *testing.T) {
	t.Parallel()
	var s sim.Server
	g := startGateway(t, simulatedAt(t, &s))
	at := "http://" + g.at["admin"]
	for _, c := range []struct {
		method, path string
		headers      []string
		status       int
	}{
		{"GET", "/-/status", nil, 200},
		{"GET", "/-/status", []string{"Host", "localhost:1"}, 200},
		{"GET", "/-/status", []string{"Host", "[::1]:1"}, 200},
		{"GET", "/-/status", []string{"Host", "evil.example"}, 403},
		{"GET", "/-/status", []string{"Host", "127.0.0.1.evil.example"}, 403},
		{"GET", "/-/status", []string{"Origin", "http://evil.example"}, 403},
		{"POST", "/-/drain", []string{"Origin", "null"}, 403},
		{"POST", "/-/drain", []string{"Host", "evil.example"}, 403},
		{"POST", "/-/drain", []string{"Sec-Fetch-Site", "none"}, 403},
		{"POST", "/-/status", nil, 405},
		{"GET", "/-/drain", nil, 405},
		{"GET", "/plans", nil, 404},
	} {
		if status, b := fetch(t, c.method, at+c.path, "", c.headers...); status != c.status {
			t.Errorf("%s %s %v: %d %s", c.method, c.path, c.headers, status, b)
		}
	}
	if status, b := fetch(t, "GET", at+"/-/ready", ""); status != 200 {
		t.Errorf("it was drained: %d %s", status, b)
	}
	// Where callers come, there is nothing of it.
	if status, _ := fetch(t, "GET", "http://"+g.at["http"]+"/-/status", ""); status != 404 {
		t.Errorf("callers see the status: %d", status)
	}
}

// TestGatewayReadyInOutage: callers are taken while the server is away, and it is said.
func TestGatewayReadyInOutage(t *testing.T) {
	t.Parallel()
	var s sim.Server
	g := startGateway(t, simulatedAt(t, &s))
	s.Inject(sim.Status(http.StatusBadGateway))
	if status, b := fetch(t, "GET", "http://"+g.at["http"]+"/plans", ""); status != 502 && status != 503 {
		t.Errorf("%d %s", status, b)
	}
	status, b := fetch(t, "GET", "http://"+g.at["admin"]+"/-/ready", "")
	if status != 200 || !strings.Contains(b, "ready; the server is away since 2") {
		t.Errorf("%d %s", status, b)
	}
	if _, b := fetch(t, "GET", "http://"+g.at["admin"]+"/metrics", ""); !strings.Contains(b, "\nadamant_gateway_upstream_up{upstream=") ||
		!strings.Contains(b, "} 0\n# HELP adamant_gateway_wait_seconds") {
		t.Errorf("the metrics do not tell: %s", b)
	}
}

// TestGatewayDrains: who is there when it is told to end is served.
func TestGatewayDrains(t *testing.T) {
	t.Parallel()
	var s sim.Server
	upstream := simulatedAt(t, &s)
	arrived, goOn := make(chan struct{}), make(chan struct{})
	s.Inject(sim.When(sim.Request("GET", "/plans"), sim.First(1, func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
		close(arrived)
		<-goOn
		return next()
	})))
	g := startGateway(t, upstream)
	answered := make(chan int)
	go func() {
		status, _ := fetch(t, "GET", "http://"+g.at["http"]+"/plans", "")
		answered <- status
	}()
	<-arrived
	if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for { // until it takes no more
		if c, err := new(net.Dialer).DialContext(t.Context(), "tcp", g.at["http"]); err == nil {
			_ = c.Close()
			continue
		}
		break
	}
	close(goOn)
	if status := <-answered; status != 200 {
		t.Errorf("answered %d", status)
	}
	if err := g.cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, g.said)
	}
}

// TestGatewayTLS: certificates on both sides, read again at a hangup.
func TestGatewayTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name string, blocks ...*pem.Block) string {
		var b bytes.Buffer
		for _, block := range blocks {
			if err := pem.Encode(&b, block); err != nil {
				t.Fatal(err)
			}
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	certify := func(serial int64) (*x509.Certificate, tls.Certificate) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "gateway"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		}
		der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		keyDER, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		write("cert.pem", &pem.Block{Type: "CERTIFICATE", Bytes: der})
		write("key.pem", &pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
		parsed, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return parsed, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	}
	first, pair := certify(1)
	// A server that wants to know its client.
	var s sim.Server
	t.Cleanup(s.Close)
	server := httptest.NewUnstartedServer(s.Handler())
	clients := x509.NewCertPool()
	clients.AddCert(first)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	write("client.pem", &pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})
	for _, name := range []string{"cert", "key"} {
		b, err := os.ReadFile(filepath.Join(dir, name+".pem"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "up-"+name+".pem"), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(dir, "gateway.yaml")
	text := strings.ReplaceAll(`
upstream:
  url: URL
  tls: {ca: DIR/up-cert.pem, cert: DIR/up-cert.pem, key: DIR/up-key.pem}
  listen:
    http: {address: "127.0.0.1:0", tls: {cert: DIR/cert.pem, key: DIR/key.pem}}
`, "DIR", dir)
	if err := os.WriteFile(config, []byte(strings.Replace(text, "URL", server.URL, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	g := startGateway(t, "", "--config", config)
	serial := func() int64 {
		roots := x509.NewCertPool()
		roots.AddCert(first)
		tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // which one it is is looked at
		defer tr.CloseIdleConnections()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+g.at["http"]+"/worker/state", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(r)
		if err != nil {
			t.Fatalf("%v: %s", err, g.said)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 1 {
			b, _ := io.ReadAll(resp.Body)
			t.Errorf("%s %s: %s", resp.Proto, resp.Status, b)
		}
		return resp.TLS.PeerCertificates[0].SerialNumber.Int64()
	}
	if n := serial(); n != 1 {
		t.Errorf("certificate %d", n)
	}
	certify(2)
	if n := serial(); n != 1 {
		t.Errorf("certificate %d, and nobody has asked for it", n)
	}
	if err := g.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	deadline, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for serial() != 2 && deadline.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	if n := serial(); n != 2 {
		t.Errorf("certificate %d after a hangup: %s", n, g.said)
	}
	g.end(t)
}

// TestGatewayMetrics: their names and helps are as they should be, and what callers send
// makes no more series.
func TestGatewayMetrics(t *testing.T) {
	t.Parallel()
	m := newGatewayMetrics()
	g := &gateway.Gateway{Upstream: "http://127.0.0.1:1"}
	g.Log = func(r gateway.Record) { m.record("http://a", r) }
	m.observe("http://a", g)
	m.trace("http://a")
	defer g.Close()
	g.Drain()
	for i := range 500 {
		for _, method := range []string{"GET", "BREW", fmt.Sprintf("M%d", i)} {
			for _, path := range []string{"/plans/x%d", "/tasks/%d", "/x/%d", "/api/v1/devices/%d", "/api/v9/%d"} {
				r := httptest.NewRequestWithContext(t.Context(), method, fmt.Sprintf(path, i), nil)
				g.ServeHTTP(httptest.NewRecorder(), r)
			}
		}
	}
	if n := testutil.CollectAndCount(m.requests); n > 10 {
		t.Errorf("%d series", n)
	}
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}

// TestGatewayNotifiesSystemd: it says that it is ready when it is, that it lives, and
// that it ends.
func TestGatewayNotifiesSystemd(t *testing.T) {
	dir, err := os.MkdirTemp("", "n") //nolint:usetesting // its path is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", l.LocalAddr().String())
	t.Setenv("WATCHDOG_USEC", "100000")
	var s sim.Server
	g := startGateway(t, simulatedAt(t, &s))
	next := func() string {
		b := make([]byte, 1000)
		n, err := l.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	if got, want := next(), "READY=1\nSTATUS=0 callers; of 1 servers, 0 away"; got != want {
		t.Errorf("%q, not %q", got, want)
	}
	if got, want := next(), "WATCHDOG=1\nSTATUS=0 callers; of 1 servers, 0 away"; got != want {
		t.Errorf("%q, not %q", got, want)
	}
	g.end(t)
	for got := next(); got != "STOPPING=1\nSTATUS=draining"; got = next() {
		if !strings.HasPrefix(got, "WATCHDOG=1\n") {
			t.Fatalf("%q", got)
		}
	}
}
