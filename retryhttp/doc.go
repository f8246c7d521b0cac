// Package retryhttp says what HTTP knows about retrying, and has a RoundTripper
// that heeds it.
//
// Most programs put a zero [Transport] into an http.Client:
//
//	client := &http.Client{Transport: new(retryhttp.Transport)}
//
// Then an outage of up to a second surfaces in no call that may be repeated, a
// silent server gets at most five requests in any second from the whole
// process, and a call gives up after at most five attempts. The error is an
// [*retry.Error] that lists them.
//
// # What is repeated
//
// By default the methods that RFC 9110 (9.2.2) calls idempotent: GET, HEAD,
// OPTIONS, TRACE, PUT and DELETE, and whatever bears an Idempotency-Key. Set
// Transport.Safety where that is wrong for a server. All other requests are
// repeated only if not one byte of them was written. RFC 9110 asks that a client
// not retry a failed automatic retry; this package departs from that, within
// the limits above.
//
// # One loop per call
//
// Do not stack it: a Transport over a Transport, or under a client that retries.
// The inner one then repeats only what was not sent. Clients that know more
// about their requests than HTTP does use [Wire] with [retry.Do].
package retryhttp
