package blueapi

import (
	"context"
	"net/url"
)

// Device is a piece of hardware, or a part of one, that plans can use.
type Device struct {
	// Name may be dotted: stage.x is a part of stage.
	Name      string     `json:"name"`
	Protocols []Protocol `json:"protocols"`
	// Extra is what a later server says besides.
	Extra Extra `json:"-"`
}

// Protocol is something a device can do, such as Readable or Movable[float].
type Protocol struct {
	Name  string   `json:"name"`
	Types []string `json:"types"`
}

// Devices lists the devices, in the server's order.
func (c *Client) Devices(ctx context.Context) ([]Device, error) {
	var answer struct {
		Devices []Device `json:"devices"`
	}
	op := read("GET /devices", "/devices", how{})
	op.key = "devices"
	err := c.do(ctx, op, &answer)
	return answer.Devices, err
}

// Device reads one device. The error is an [*Error] with status 404 if there is
// none of that name.
func (c *Client) Device(ctx context.Context, name string) (Device, error) {
	var d Device
	op := read("GET /devices/{name}", "/devices/"+url.PathEscape(name), how{})
	op.key = "name"
	err := c.do(ctx, op, &d)
	return d, err
}
