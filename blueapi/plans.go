package blueapi

import "encoding/json"

// Plan is an experiment procedure that the server can run.
type Plan struct {
	Name string `json:"name"`
	// Description is the plan's docstring, with its indentation.
	Description *string `json:"description"`
	// Schema is the JSON schema of the parameters, byte for byte as sent: the
	// order of its properties is the order of the plan's arguments.
	Schema json.RawMessage `json:"schema"`
}
