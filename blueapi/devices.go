package blueapi

// Device is a piece of hardware, or a part of one, that plans can use.
type Device struct {
	// Name may be dotted: stage.x is a part of stage.
	Name      string     `json:"name"`
	Protocols []Protocol `json:"protocols"`
}

// Protocol is something a device can do, such as Readable or Movable[float].
type Protocol struct {
	Name  string   `json:"name"`
	Types []string `json:"types"`
}
