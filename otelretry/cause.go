package otelretry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strconv"
	"syscall"

	"github.com/adamant-go/adamant/retry"
	"github.com/adamant-go/adamant/retryhttp"
)

// errorType is the value of error.type for the error of an attempt or of a call:
// one of few words, or an HTTP status.
func (t *telemetry) errorType(err error) string {
	if failed, ok := errors.AsType[*retry.Error](err); ok && failed.Err != nil {
		return t.errorType(failed.Err) // not what earlier attempts met
	}
	if status := t.statusOf(err); status != 0 {
		return strconv.Itoa(status)
	}
	return causeOf(err)
}

// statusOf is the HTTP status that err stands for; 0 if none.
func (t *telemetry) statusOf(err error) int {
	if err == nil {
		return 0
	}
	if answer, ok := errors.AsType[*retryhttp.StatusError](err); ok {
		return answer.Status
	}
	if t.Status != nil {
		return t.Status(err)
	}
	return 0
}

func causeOf(err error) string {
	if is[*net.DNSError](err) { // which may be a time-out as well
		return "dns"
	}
	if is[*tls.CertificateVerificationError](err) || is[tls.RecordHeaderError](err) || is[tls.AlertError](err) ||
		is[x509.UnknownAuthorityError](err) || is[x509.HostnameError](err) || is[x509.CertificateInvalidError](err) {
		return "tls"
	}
	if errors.Is(err, context.Canceled) {
		return "cancelled"
	}
	if timed, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err); ok && timed.Timeout() {
		return "timeout"
	}
	for _, c := range []struct {
		err  error
		word string
	}{
		{syscall.ECONNREFUSED, "connection_refused"},
		{syscall.ECONNRESET, "connection_reset"},
		{syscall.ECONNABORTED, "connection_reset"},
		{syscall.EPIPE, "connection_reset"},
		{syscall.EHOSTUNREACH, "unreachable"},
		{syscall.ENETUNREACH, "unreachable"},
		{io.EOF, "connection_closed"},
		{io.ErrUnexpectedEOF, "connection_closed"},
		{net.ErrClosed, "connection_closed"},
	} {
		if errors.Is(err, c.err) {
			return c.word
		}
	}
	return "_OTHER" // what the semantic conventions have for it
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
