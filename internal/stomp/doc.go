// Package stomp is a client of message brokers that speak STOMP 1.1 or 1.2, such
// as RabbitMQ and ActiveMQ. [Frame] and [Decoder] are the protocol alone.
package stomp
