package main

import (
	"context"
	"net/http"

	"github.com/adamant-go/adamant/blueapi"
)

// failed is the end of a command whose call failed. If the server answers with its
// bare 500, its environment is asked why.
func (a *app) failed(ctx context.Context, c *blueapi.Client, what string, err error) error {
	e := endOfCall(a.ui.voice, what, err)
	e.msg += a.whyBroken(ctx, c, err)
	return e
}

// whyBroken is a line, after a newline, on why the server cannot do what it should;
// "" if it was no 500 or cannot be told.
func (a *app) whyBroken(ctx context.Context, c *blueapi.Client, err error) string {
	if r := refusal(err); r == nil || r.Status != http.StatusInternalServerError {
		return ""
	}
	env, err := c.Environment(ctx)
	if err != nil {
		return ""
	}
	line := "\nadamant: "
	switch {
	case env.ErrorMessage != nil:
		return line + "the server's environment is broken: " + *env.ErrorMessage +
			"; when that is mended, 'adamant env --reload' loads it again"
	case !env.Initialized:
		return line + "the server is loading its environment: try again when 'adamant env' says initialized"
	}
	if wedged, err := c.Wedged(ctx); err != nil || !wedged {
		return ""
	}
	return line + "the server hangs in a reload of its environment, or has just begun one; " +
		"if 'adamant env' shows the same id in a minute, 'adamant env --reload' heals it"
}
