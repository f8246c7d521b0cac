package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/adamant-go/adamant/gateway"
)

// discard is a ResponseWriter for nobody.
type discard struct{ header http.Header }

func (d discard) Header() http.Header       { return d.header }
func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) WriteHeader(int)             {}

// BenchmarkGateway compares requests through a gateway with the same through
// httputil.ReverseProxy, over loopback. bench/ compares whole programs.
func BenchmarkGateway(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Blueapi-Version", "1.21.1")
		fmt.Fprint(w, `"IDLE"`)
	}))
	defer server.Close()
	to, err := url.Parse(server.URL)
	if err != nil {
		b.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 1000}
	defer transport.CloseIdleConnections()
	g := &gateway.Gateway{Upstream: server.URL}
	defer g.Close()
	for name, h := range map[string]http.Handler{
		"plain":   &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(to) }, Transport: transport},
		"adamant": g,
	} {
		var n atomic.Int64
		for _, what := range []struct{ name, method, path, body string }{
			{"alike", "GET", "/worker/state", ""}, {"different", "GET", "/tasks/%d", ""}, {"submit", "POST", "/tasks", `{"name":"sleep"}`},
		} {
			b.Run(name+"/"+what.name, func(b *testing.B) {
				b.ReportAllocs()
				b.SetParallelism(8)
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						path := what.path
						if strings.Contains(path, "%") {
							path = fmt.Sprintf(path, n.Add(1))
						}
						r := httptest.NewRequestWithContext(b.Context(), what.method, path, strings.NewReader(what.body))
						r.Header.Set("Accept", "*/*")
						r.Header.Set("User-Agent", "python-requests/2.32.3")
						h.ServeHTTP(discard{make(http.Header)}, r)
					}
				})
			})
		}
	}
}
