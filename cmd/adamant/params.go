package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/adamant-go/adamant/blueapi"
)

// aboutParams explains them in the help of the commands that take them.
const aboutParams = `Each of PARAMETERS is one of

  NAME=VALUE    VALUE is what the plan says it is: text for a text or a device,
                else JSON (5, true, null, [1,2]), and without brackets a list:
                detectors=det,det2. A NAME given twice makes a list too.
  NAME:=JSON    the same for any NAME: JSON as it is
  JSON          an object, '{"num": 5}'
  @FILE         an object in a file, JSON or YAML; @- or - is the standard input

and what comes later replaces what came before. They are checked by the plan's
description before anything is submitted; --no-check leaves that to the server,
which may know more.`

// param is what one parameter of a plan is given: JSON, or the texts that were
// written after its name. What those mean depends on the plan.
type param struct {
	name  string
	json  json.RawMessage // nil if there are texts
	texts []string
}

// params are what the parameters of a plan are given, in the order in which they
// were first named.
type params []param

// set replaces what a parameter was given.
func (p *params) set(name string, value json.RawMessage) {
	p.at(name).json, p.at(name).texts = value, nil
}

// add gives a parameter one more text; JSON that it was given is replaced.
func (p *params) add(name, text string) {
	q := p.at(name)
	q.json, q.texts = nil, append(q.texts, text)
}

func (p *params) at(name string) *param {
	i := slices.IndexFunc(*p, func(q param) bool { return q.name == name })
	if i < 0 {
		i = len(*p)
		*p = append(*p, param{name: name})
	}
	return &(*p)[i]
}

// haveTexts tells whether the plan's schema is needed to read them.
func (p params) haveTexts() bool {
	return slices.ContainsFunc(p, func(q param) bool { return q.texts != nil })
}

// object writes them as a JSON object, once all texts are read.
func (p params) object() json.RawMessage {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, q := range p {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(dumps(q.name, 0) + ":")
		b.Write(q.json)
	}
	b.WriteByte('}')
	return b.Bytes()
}

// givenRequest reads the arguments and options of a run, and leaves its parameters
// in o until the plan is known.
func givenRequest(cmd *cobra.Command, args []string, o *runOptions) (r blueapi.TaskRequest, err error) {
	if len(args) == 0 {
		return r, usageError{cmd, "Missing argument 'NAME'."}
	}
	if err := notEmpty(cmd, args[0], "NAME"); err != nil {
		return r, err
	}
	var given params
	read := make(chan error, 1)
	go func() { // who types them, or a pipe, may never come to an end
		var err error
		given, err = readParams(args[1:], cmd.InOrStdin())
		read <- err
	}()
	select {
	case err = <-read:
	case <-cmd.Context().Done():
		return r, endOfInterrupt(asAdamant)
	}
	if err != nil {
		return r, usageError{cmd, fmt.Sprintf("Invalid value for '[PARAMETERS]...': Parameters %v", err)}
	}
	if !cmd.Flags().Changed("instrument-session") {
		return r, usageError{cmd, "Missing option '-i' / '--instrument-session'."}
	}
	o.given = &given
	return blueapi.TaskRequest{Name: args[0], InstrumentSession: o.session}, nil
}

// prepare puts the parameters that were given into a request, and checks them. It
// tells whether that was all that was asked for. An error is an ending, or a
// *blueapi.RunError.
func (a *app) prepare(ctx context.Context, c *blueapi.Client, r *blueapi.TaskRequest, o runOptions) (done bool, err error) {
	if o.given == nil {
		return false, nil
	}
	var unchecked error
	if o.noCheck && !o.given.haveTexts() {
		r.Params = o.given.object() // without asking the server anything
	} else {
		r.Params, unchecked, err = o.given.forPlan(ctx, a.ui.voice, c, r.Name, o.noCheck)
	}
	if err != nil || !o.dryRun {
		return false, err
	}
	if unchecked != nil {
		return false, endOfCall(a.ui.voice, "", unchecked)
	}
	text, err := json.Marshal(r)
	if err != nil {
		return false, ending{msg: a.ui.voice.errorf("%v", err), status: statusError}
	}
	return true, a.ui.result(string(text) + "\n")
}

// readParams reads the arguments after the name of a plan, from left to right.
func readParams(args []string, stdin io.Reader) (params, error) {
	var p params
	for _, arg := range args {
		name, text, assigned := strings.Cut(arg, "=")
		var object []param
		var err error
		switch {
		case arg == "-" || arg == "@-":
			object, err = readObject("the standard input", stdin)
		case strings.HasPrefix(arg, "@"):
			object, err = readObjectFile(strings.TrimPrefix(arg, "@"))
		case strings.HasPrefix(strings.TrimSpace(arg), "{"):
			object, err = objectOfJSON(arg)
		case !assigned || name == "" || name == ":":
			err = fmt.Errorf("must be NAME=VALUE, a JSON object, @FILE or -, not %s", pyQuote(arg))
		case strings.HasSuffix(name, ":"):
			name = strings.TrimSuffix(name, ":")
			if !json.Valid([]byte(text)) {
				err = fmt.Errorf("are not valid JSON: %s after %s:=", pyQuote(text), name)
			}
			object = []param{{name: name, json: json.RawMessage(text)}}
		default:
			p.add(name, text)
		}
		if err != nil {
			return nil, err
		}
		for _, q := range object {
			p.set(q.name, q.json)
		}
	}
	return p, nil
}

// objectOfJSON takes a JSON object apart; of values given twice the last counts.
// An error says what the parameters are or must be.
func objectOfJSON(text string) ([]param, error) {
	if _, err := parameters(text); err != nil {
		return nil, err
	}
	var p params
	dec := json.NewDecoder(strings.NewReader(text))
	_, _ = dec.Token() // the brace
	for dec.More() {
		var value json.RawMessage
		name, err := dec.Token()
		if err == nil {
			err = dec.Decode(&value)
		}
		if err != nil {
			return nil, fmt.Errorf("are not valid JSON: %w", err)
		}
		p.set(name.(string), value)
	}
	return p, nil
}
