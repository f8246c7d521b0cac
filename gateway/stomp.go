package gateway

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/internal/stomp"
)

const (
	// returnLimit is how long a caller's place is kept whose connection was lost:
	// bluesky-stomp connects again within 11 s, if it can.
	returnLimit = 30 * time.Second
	// subscribeLimit is how long after a caller has connected it may subscribe for the
	// first time and still get what was told since then.
	subscribeLimit = 30 * time.Second
	// farewellAfter is how long after its return a caller may take leave. bluesky-stomp
	// 0.2.0 with stomp.py 9.0.0 waits for ever, if it is answered within 10 s of having
	// connected again: until then it takes no notice of the end of a connection.
	farewellAfter = 11 * time.Second
	// maxLost is how many callers' places are kept.
	maxLost = 256
)

// ServeStomp lets callers listen to the server's events as they would at its message
// broker, until l or the gateway is closed; it returns nil then. It may be called for
// several listeners. Broker may be away, or nil: then callers are told what can be read
// from the server.
//
// Callers speak STOMP 1.1 or 1.2, subscribe to the broker's destination, and get what
// the broker would have sent, byte for byte, but for the ids of tasks that have an alias,
// and for these:
//
//   - The end of a task is told exactly once. If the server's own word does not come
//     although the task is over by its record, one is made from that. If the record is
//     gone, the task is said to have failed, with the reason in the message: nobody knows
//     how it ended.
//   - While there is no broker, the states that are read from the server are told.
//   - What is published twice in a row is told once.
//   - The first subscription of a connection begins when that was made: who subscribes,
//     does not wait for a receipt, and starts a plan, misses nothing.
//   - Who has lost a connection, and comes back from the same address within 30 s with
//     the same login and id of subscription, gets what was told meanwhile, up to 64 MiB
//     of it. What the network has lost with the connection is lost, except for the ends
//     of tasks, which are told again. Several such callers look alike: each, and who comes
//     for the first time, is told the ends that any of them may have missed, and what was
//     told since the last of them was lost.
//     Who takes leave within 11 s of that is answered when they are over: the Python client
//     would hang otherwise.
//   - For 30 s after its start a gateway tells the ends of the plans in Begun to all who
//     come, that of the server's last task also if it came before: who has lost the
//     gateway that was there before may wait for it.
//
// Who only listens need not send anything, not even heart-beats; SEND and transactions
// are refused. A caller for which 32 MiB wait, besides what was told before it came, is
// cut off.
//
// The records of tasks are read with the credentials of whoever had them started through
// the gateway, and otherwise with those in Upstream, or else with the latest that the
// server has accepted from a caller. They are kept in memory, the latter until there are
// later ones. This is done only while somebody is connected.
func (g *Gateway) ServeStomp(l net.Listener) error {
	g.once.Do(g.setUp)
	if g.setUpErr != nil {
		l.Close()
		return g.setUpErr
	}
	g.hub.open(g)
	return g.hub.server.Serve(l)
}

// place is where a subscription stands in what the hub tells, or a connection that may
// have one.
type place struct {
	began    int64 // what was told up to this number it has not got
	first    bool  // it is the first of its connection
	settled  bool  // a subscription of the connection was given up: it has gone on from where it was
	returned bool  // it was here before, or may have been at another gateway
}

// absent is the subscription of a caller whose connection was lost.
type absent struct {
	host, login, id string
	at              time.Time
	began, got      int64
}

// destinations are the names of a topic: RabbitMQ's exchange for topics has it too.
func destinations(topic string) []string {
	names := []string{topic}
	if name, ok := strings.CutPrefix(topic, "/topic/"); ok {
		names = append(names, "/exchange/amq.topic/"+name)
	}
	return names
}

// serve says how callers are served.
func (h *hub) serve(s *stomp.Server) {
	s.Login, s.Passcode, s.Name = h.gateway.StompLogin, h.gateway.StompPasscode, "adamant"
	s.Connected, s.Subscribe, s.Unsubscribe, s.Farewell, s.Gone = h.connected, h.subscribe, h.unsubscribe, h.farewell, h.gone
}

func (h *hub) connected(p *stomp.Peer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.peers) == 0 {
		h.attend()
	}
	h.peers[p] = &place{began: h.number, first: true}
}

// subscribe lets a caller listen, from where it left off.
func (h *hub) subscribe(s *stomp.Subscriber) error {
	known := false
	for _, name := range destinations(h.destination) {
		known = known || s.Destination == name
	}
	if !known {
		return fmt.Errorf("'%s' is not served here; there is %s", s.Destination, h.destination)
	}
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	connection := h.peers[s.Peer()]
	if connection == nil {
		return errors.New("the connection has ended")
	}
	mine, from, ends := place{began: h.number}, h.number, h.number
	if connection.first && now.Sub(s.Peer().Since()) < subscribeLimit {
		mine.began, from, ends = connection.began, connection.began, connection.began
	}
	connection.first = false
	if l, ok := h.placeOf(s, now); ok && !connection.settled {
		mine.began, from, ends = l.began, l.got, l.began
		connection.returned = true
		if from < h.forgotten {
			h.counts.Gaps++
		}
	}
	young := now.Sub(h.gateway.since) < returnLimit
	connection.returned = connection.returned || young
	for _, kept := range [][]told{h.ends, h.history} {
		for _, t := range kept {
			if n := t.message.Number; n > from || t.ends != nil && (n > ends || young && t.ends.before) {
				s.Send(t.message)
				h.counts.Replayed++
			}
		}
	}
	h.subs[s] = mine
	return nil
}

// placeOf finds the place that a subscription may go on from. It is kept, as it may be that
// of another: programs on one machine look alike, and whoever comes back has to be told its
// end though others came meanwhile. So ends are told from the earliest of such places on,
// and all else from the latest.
func (h *hub) placeOf(s *stomp.Subscriber, now time.Time) (place absent, ok bool) {
	host, login := hostOf(s.Peer()), s.Peer().Login()
	for _, l := range h.lost {
		if now.Sub(l.at) >= returnLimit || l.host != host || l.login != login || l.id != s.ID {
			continue
		}
		if ok {
			l.began = min(l.began, place.began)
		}
		place, ok = l, true
	}
	return place, ok
}

func (h *hub) unsubscribe(s *stomp.Subscriber) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.subs, s)
	if connection := h.peers[s.Peer()]; connection != nil {
		connection.settled = true
	}
}

// farewell is how long a caller that takes leave has to wait for the answer. If a plan was
// asked for since it came, it has not come back for the end of another.
func (h *hub) farewell(p *stomp.Peer) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if connection := h.peers[p]; connection == nil || !connection.returned || h.asked.After(p.Since()) {
		return 0
	}
	return farewellAfter - time.Since(p.Since())
}

// gone keeps the place of a caller that has not taken leave.
func (h *hub) gone(p *stomp.Peer, inGoodOrder bool) {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range p.Subscribers() {
		mine, ok := h.subs[s]
		delete(h.subs, s)
		if !ok || inGoodOrder {
			continue
		}
		if len(h.lost) == maxLost {
			h.lost = append(h.lost[:0], h.lost[1:]...)
		}
		h.lost = append(h.lost, absent{
			host: hostOf(p), login: p.Login(), id: s.ID, at: now, began: mine.began, got: max(mine.began, s.Written()),
		})
	}
	if p.Cut() {
		h.counts.Cut++
	}
	delete(h.peers, p)
	if len(h.peers) == 0 {
		h.idle = now
		h.leave()
	}
}

func hostOf(p *stomp.Peer) string {
	addr := p.Addr().String()
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return addr
}

// StompStatus is what a gateway does for those who listen to events.
type StompStatus struct {
	// Callers is how many are connected.
	Callers int `json:"callers"`
	// Broker is how the gateway stands with the server's message broker: "none",
	// "connecting", "connected", "away" or "refused"; "" if ServeStomp was not called.
	Broker string `json:"broker,omitempty"`
	// Since is when that began.
	Since time.Time `json:"since,omitzero"`
	// Cause is why there is no connection; "" if there is.
	Cause string `json:"cause,omitempty"`
	// Following are the tasks that have not ended as far as is known, under the ids
	// that callers know.
	Following []string `json:"following"`
	StompCounts
}

// StompCounts count since the gateway was made.
type StompCounts struct {
	// Events were told, each to all who listened.
	Events int64 `json:"events"`
	// Gaps is how often events may have been missed: by the gateway, or by a caller for
	// whom they were not kept long enough.
	Gaps int64 `json:"gaps"`
	// Healed is how many ends were told by the tasks' records, and Late how many words
	// of the server came after that, and were dropped; Repeated, what it said twice.
	Healed   int64 `json:"healed"`
	Late     int64 `json:"late"`
	Repeated int64 `json:"repeated"`
	// Replayed is how many events were told to callers that came late, or again.
	Replayed int64 `json:"replayed"`
	// Cut is how many callers were cut off because they were too slow.
	Cut int64 `json:"cut"`
}

func (h *hub) status() StompStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := StompStatus{
		Callers: len(h.peers), Broker: h.broker, Since: h.since, Following: []string{}, StompCounts: h.counts,
	}
	if h.cause != nil {
		s.Cause = h.cause.Error()
	}
	for id, t := range h.tasks {
		if !t.over {
			s.Following = append(s.Following, h.gateway.aliases.shown(id))
		}
	}
	return s
}

// destinationOf is where the server publishes.
func destinationOf(b *blueapi.Broker) string {
	if b == nil {
		return blueapi.DefaultDestination
	}
	return cmp.Or(b.Destination, blueapi.DefaultDestination)
}
