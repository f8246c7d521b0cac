package stomp_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/internal/stomp"
)

// TestBrokerSaysWhatRabbitMQSaid replays what clients sent in the recorded
// sessions, publishes what the server had sent meanwhile, and compares what the
// broker says with what RabbitMQ said, byte for byte but for the session's name.
func TestBrokerSaysWhatRabbitMQSaid(t *testing.T) {
	names, _ := filepath.Glob("testdata/golden/*.frames")
	if len(names) == 0 {
		t.Fatal("no recordings")
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".frames"), func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				l.broker.Login, l.broker.Passcode = "guest", "guest"
				nc, err := l.net.DialContext(t.Context(), "tcp", address)
				if err != nil {
					t.Fatal(err)
				}
				var said, recorded bytes.Buffer
				ended := make(chan struct{})
				go func() {
					io.Copy(&said, nc)
					close(ended)
				}()
				replay(t, l, name, nc, &recorded)
				<-ended
				nc.Close()
				session := regexp.MustCompile(`session-[\w-]+`)
				got, want := session.ReplaceAllString(said.String(), "S"), session.ReplaceAllString(recorded.String(), "S")
				if got != want {
					t.Errorf("got\n%s\nwant\n%s", got, want)
				}
			})
		})
	}
}

func replay(t *testing.T, l *lab, name string, nc net.Conn, recorded *bytes.Buffer) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewReader(f); ; {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var said struct{ Dir, Frame string }
		if err := json.Unmarshal(line, &said); err != nil {
			t.Fatal(err)
		}
		switch said.Dir {
		case "out":
			io.WriteString(nc, said.Frame)
			time.Sleep(time.Second)
			synctest.Wait()
		case "in":
			recorded.WriteString(said.Frame)
			republish(t, l.broker, said.Frame)
		}
	}
}

// republish sends again what the server must have sent for these messages: its
// own headers, which are in ASCII order, and the body.
func republish(t *testing.T, b *stomp.Broker, stream string) {
	t.Helper()
	frames, err := decode(strings.NewReader(stream), stomp.V11, stomp.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range frames {
		if f.Command != "MESSAGE" {
			continue
		}
		var headers []stomp.Header
		for _, name := range []string{"JMSType", "correlation-id", "destination", "traceparent"} {
			if v, ok := f.Lookup(name); ok {
				headers = append(headers, stomp.Header{Name: name, Value: v})
			}
		}
		b.Publish(f.Get("destination"), f.Body, headers...)
		time.Sleep(time.Second)
		synctest.Wait()
	}
}

// TestBrokerRefuses holds the broker's ERRORs to those of RabbitMQ 3.10.8, seen
// on the wire.
func TestBrokerRefuses(t *testing.T) {
	const connect = "CONNECT\naccept-version:1.1,1.2\nhost:/\nlogin:guest\npasscode:secret\n\n\x00"
	for _, tt := range []struct{ name, said, message, body string }{
		{"login", "CONNECT\naccept-version:1.2\nlogin:guest\npasscode:wrong\n\n\x00", "Bad CONNECT", "Access refused for user 'guest'\n"},
		{"SUBSCRIBE", connect + "SUBSCRIBE\nid:0\ndestination:/bad\n\n\x00", "Unknown destination", "'/bad' is not a valid destination.\n" +
			"Valid destination types are: /temp-queue, /exchange, /topic, /queue, /amq/queue, /reply-queue/.\n"},
		{"twice", connect + strings.Repeat("SUBSCRIBE\nid:0\ndestination:/topic/t\n\n\x00", 2), "Duplicated subscription identifier", "A subscription identified by 'T_0' already exists."},
		{"UNSUBSCRIBE", connect + "UNSUBSCRIBE\nid:7\n\n\x00", "No subscription found", "UNSUBSCRIBE must refer to an existing subscription.\nSubscription to \"id='7'\" not found.\n"},
		{"command", connect + "NACK\nid:7\n\n\x00", "Bad command", "Could not interpret command \"NACK\"\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				nc, err := l.net.DialContext(t.Context(), "tcp", address)
				if err != nil {
					t.Fatal(err)
				}
				defer nc.Close()
				io.WriteString(nc, tt.said)
				said, err := io.ReadAll(nc) // which the broker ends
				want := fmt.Sprintf("ERROR\nmessage:%s\ncontent-type:text/plain\nversion:1.0,1.1,1.2\ncontent-length:%d\n\n%s\x00\n", tt.message, len(tt.body), tt.body)
				if err != nil || !strings.HasSuffix(string(said), want) {
					t.Errorf("got %q, %v; want %q", said, err, want)
				}
			})
		})
	}
}

// TestBrokerHeaders are those of a MESSAGE that RabbitMQ 3.10.8 made of this SEND.
func TestBrokerHeaders(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		s := l.subscribe(l.connect())
		var headers []stomp.Header
		for line := range strings.SplitSeq("z:1 a:2 content-type:text/plain correlation-id:x reply-to:/topic/q persistent:true priority:4 receipt:s1 m:first m:second", " ") {
			name, value, _ := strings.Cut(line, ":")
			headers = append(headers, stomp.Header{Name: name, Value: value})
		}
		l.broker.Publish(events, []byte("hello"), headers...)
		d, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, h := range d.Message.Headers[4:] {
			got = append(got, h.Name+":"+h.Value)
		}
		const want = "m:first receipt:s1 a:2 z:1 reply-to:/topic/q correlation-id:x priority:4 persistent:true content-type:text/plain content-length:5"
		if strings.Join(got, " ") != want {
			t.Errorf("got %v", got)
		}
	})
}

// TestBrokerTwice: the fault that repeats a frame.
func TestBrokerTwice(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.broker.Inject(stomp.When(stomp.Sends("MESSAGE"), stomp.Nth(2, stomp.Twice)))
		s := l.subscribe(l.connect())
		l.publish(3)
		time.Sleep(time.Second)
		want(t, s, "1", "2", "2", "3")
	})
}

// TestBrokerClientThatDoesNotRead: it costs the others nothing, and in the end its
// connection.
func TestBrokerClientThatDoesNotRead(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		nc, err := l.net.DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		io.WriteString(nc, "CONNECT\naccept-version:1.2\nlogin:guest\npasscode:secret\n\n\x00SUBSCRIBE\nid:0\ndestination:"+events+"\n\n\x00")
		s := l.subscribe(l.connect())
		time.Sleep(time.Second)
		body := make([]byte, 1<<20)
		for range 300 {
			l.broker.Publish(events, body)
			if d, err := s.Next(t.Context()); err != nil || len(d.Message.Body) != 1<<20 {
				t.Fatal(err)
			}
		}
		if n := l.broker.Subscribers(events); n != 1 {
			t.Errorf("%d subscribers", n)
		}
	})
}
