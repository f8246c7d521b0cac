package stomp

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// What a server says, in RabbitMQ's words: for Broker and Server.

// highestVersion is the version to agree on; "" if there is none.
func highestVersion(connect *Frame) Version {
	var version Version
	for offered := range strings.SplitSeq(connect.Get("accept-version"), ",") {
		if v := Version(offered); (v == V11 || v == V12) && v > version {
			version = v
		}
	}
	return version
}

// connectedFrame is the answer to CONNECT.
func connectedFrame(server, session string, send, receive time.Duration, v Version) *Frame {
	f := &Frame{Command: "CONNECTED"}
	if server != "" {
		f.Headers = append(f.Headers, Header{"server", server})
	}
	ms := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
	f.Headers = append(f.Headers, Header{"session", session}, Header{"heart-beat", ms(send) + "," + ms(receive)}, Header{"version", string(v)})
	return f
}

// messageID is the id of the n-th message of a session; the number is behind the last
// "@@".
func messageID(subscription, session string, n int) string {
	return "T_" + subscription + "@@" + session + "@@" + strconv.Itoa(n)
}

func duplicateSubscription(id string) (message, detail string) {
	return "Duplicated subscription identifier", fmt.Sprintf("A subscription identified by 'T_%s' already exists.", id)
}

func noSubscription(id string) (message, detail string) {
	return "No subscription found",
		fmt.Sprintf("UNSUBSCRIBE must refer to an existing subscription.\nSubscription to \"id='%s'\" not found.\n", id)
}

// errorFrame is an ERROR as RabbitMQ sends it: it does not name the receipt of
// what it refuses.
func errorFrame(message, detail string) *Frame {
	return &Frame{Command: "ERROR", Body: []byte(detail), Headers: []Header{
		{"message", message},
		{"content-type", "text/plain"},
		{"version", "1.0,1.1,1.2"},
		{"content-length", strconv.Itoa(len(detail))},
	}}
}

// serverHeartBeat answers a client's heart-beat header as RabbitMQ does, which
// counts in seconds, and returns how often each side is to be heard.
func serverHeartBeat(header string) (send, receive time.Duration, ok bool) {
	x, y, ok := strings.Cut(header, ",")
	a, err1 := contentLength(x)
	b, err2 := contentLength(y)
	if !ok || err1 != nil || err2 != nil || a > maxHeartBeat || b > maxHeartBeat {
		return 0, 0, false
	}
	seconds := func(ms int) time.Duration {
		if ms == 0 {
			return 0
		}
		return time.Duration(max(ms/1000, 1)) * time.Second
	}
	return seconds(b), seconds(a), true
}
