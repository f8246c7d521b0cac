package stomp_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/adamant-go/adamant/internal/memnet"
	"github.com/adamant-go/adamant/internal/stomp"
)

// A session goes on when its broker has been away, and says where messages may be
// missing.
func ExampleClient_Open() {
	var network memnet.Network
	listener, err := network.Listen("broker:61613")
	if err != nil {
		fmt.Println(err)
		return
	}
	var broker stomp.Broker
	defer broker.Close()
	go broker.Serve(listener)

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := &stomp.Client{Address: "broker:61613", Dial: network.DialContext}
	s := client.Open(ctx, "/topic/public.worker.event")
	if err := s.Subscribed(ctx); err != nil {
		fmt.Println(err)
		return
	}
	broker.Publish("/topic/public.worker.event", []byte("RUNNING"))
	for {
		d, err := s.Next(ctx)
		switch {
		case errors.Is(err, stomp.ErrClosed):
			return
		case err != nil:
			fmt.Println(err)
			return
		case d.Message != nil && string(d.Message.Body) == "IDLE":
			fmt.Println("message: IDLE")
			s.Close()
		case d.Message != nil:
			fmt.Printf("message: %s\n", d.Message.Body)
			broker.Disconnect()
		case d.Gap.Until.IsZero():
			// It has gone; the same gap comes once more when it is over.
		default:
			fmt.Println("it is back: messages may be missing here")
			broker.Publish("/topic/public.worker.event", []byte("IDLE"))
		}
	}
	// Output:
	// message: RUNNING
	// it is back: messages may be missing here
	// message: IDLE
}
