// Package stomp is a client of message brokers that speak STOMP 1.1 or 1.2, such
// as RabbitMQ and ActiveMQ, over TCP or TLS.
//
// Start with [Client.Open]: the [Session] it returns keeps a subscription alive
// through every loss of the connection, and tells in its stream what may have
// been missed. [Client.OpenStream] reads a stream that RabbitMQ keeps, and misses
// nothing. [Client.Connect] makes one connection without that care. [Frame] and
// [Decoder] are the protocol alone, [Server] serves those who listen, and [Broker] is a
// broker in memory, which fails when told to.
//
// Three things happen independently of one another: reading, heart-beats, and the
// consumer's taking of messages. A consumer that is slow costs memory, up to
// [Client.Queue], and then messages, which is told as a [Gap]; never the
// connection. Messages of a stream wait in the broker.
package stomp
