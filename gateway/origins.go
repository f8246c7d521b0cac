package gateway

import (
	"maps"
	"net/http"
	"slices"
	"sync"
)

const (
	// maxOrigins is how many origins are remembered; those that asked last.
	maxOrigins = 64
	// maxOrigin is how long one may be, in bytes: a name of 253, a scheme and a port.
	maxOrigin = 300
)

// exposed are the headers of the gateway's own answers that a page may read.
const exposed = "Adamant-Verdict, " + headerWarning + ", Retry-After, X-Should-Retry"

// origins is what the server has said of the pages that may read its answers, by their
// origin. Without it a page would take the gateway's own answers, which say that a plan
// may be running, for a lost connection. The zero origins is empty.
type origins struct {
	mu    sync.Mutex
	known []permission // the one that was heard of last is last
}

// permission is what the server's last answer to a page said.
type permission struct {
	origin string
	header http.Header
}

func (o *origins) find(origin string) int {
	return slices.IndexFunc(o.known, func(p permission) bool { return p.origin == origin })
}

// learn heeds an answer of the server to a page of an origin. One that permits nothing
// takes back what was permitted, if it is blueapi's: a proxy's says nothing about it.
func (o *origins) learn(origin string, answer http.Header) {
	if origin == "" || len(origin) > maxOrigin {
		return
	}
	permits := answer.Get("Access-Control-Allow-Origin") != ""
	if !permits && answer.Get("X-Blueapi-Version") == "" {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if i := o.find(origin); i >= 0 {
		o.known = slices.Delete(o.known, i, i+1)
	}
	if !permits {
		return
	}
	if len(o.known) == maxOrigins {
		o.known = slices.Delete(o.known, 0, 1)
	}
	h := make(http.Header)
	for _, key := range []string{"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Vary"} {
		if values := answer[key]; len(values) > 0 {
			h[key] = slices.Clone(values)
		}
	}
	o.known = append(o.known, permission{origin, h})
}

// permits reports whether the server lets pages of an origin read.
func (o *origins) permits(origin string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	i := o.find(origin)
	return i >= 0 && allows(o.known[i].header, origin)
}

// open lets the caller's page read an answer of the gateway's own, if the server lets it
// read its answers.
func (o *origins) open(a reply, c *caller) reply {
	origin := c.header.Get("Origin")
	if !a.own || origin == "" {
		return a
	}
	o.mu.Lock()
	i := o.find(origin)
	var said http.Header
	if i >= 0 {
		said = o.known[i].header
	}
	o.mu.Unlock()
	h := a.header.Clone()
	maps.Copy(h, said) // an answer for several may have another's
	if h.Get("Access-Control-Allow-Origin") == "" {
		return a
	}
	h.Add("Access-Control-Expose-Headers", exposed)
	a.header = h
	return a
}
