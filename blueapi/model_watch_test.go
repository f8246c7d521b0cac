package blueapi_test

import "github.com/adamant-go/adamant/blueapi"

// The model's client once more: watch.go and attach.go.

// watch reads whether the plan has ended.
func (x *explorer) watch(s modelState, c modelClient, do doing) {
	done := func(_ *modelState, c *modelClient) { c.say(blueapi.Done) }
	to := func(p modelPlace) func(*modelState, *modelClient) {
		return func(_ *modelState, c *modelClient) { c.at = p }
	}
	over := func(n *modelState, c *modelClient) {
		if c.at = atWatch5; x.without == recordReadAgain {
			done(n, c)
		}
	}
	idle := s.engine == noTask
	switch c.at {
	case atWatch:
		x.away(s, do)
		switch r := s.record[c.task]; {
		case x.without == recordReadFirst:
			do("GET /worker/state", func(_ *modelState, c *modelClient) { c.idle, c.at = idle, atWatch2 })
		case r == isAbsent:
			x.gone(do)
		case r == isComplete, r == isInterrupted && x.without == pauseIsNoEnd:
			do("GET {}: complete", done)
		case r == isInterrupted:
			do("GET {}: complete, and interrupted", to(atWatch2))
		}
	case atWatch2:
		do("GET /worker/task", func(n *modelState, c *modelClient) {
			c.before, c.at = s.current, atWatch3
			if c.before != c.task && x.without == anotherIsNoEnd {
				over(n, c)
			}
		})
	case atWatch3:
		switch {
		case x.without == recordReadFirst:
			if c.idle && s.record[c.task] >= isComplete {
				do("GET {}: complete", done)
			} else {
				do("GET {}: it goes on", to(atWatch))
			}
		case idle:
			do("GET /worker/state: IDLE", over)
		case c.before == c.task:
			do("GET /worker/state: not IDLE", to(atWatch))
		default:
			do("GET /worker/state: not IDLE", func(_ *modelState, c *modelClient) { c.paused, c.at = s.paused, atWatch4 })
		}
	case atWatch4:
		if r := s.record[c.before]; r == isComplete || r == isBegun && c.paused {
			do("the worker's task is not what the engine has", to(atWatch))
		} else {
			do("the engine has another task", over)
		}
	case atWatch5:
		if s.record[c.task] == isAbsent {
			x.gone(do)
		} else {
			do("GET {}: complete", done)
		}
	}
}

// attach emits what a process that finds the journal can do.
func (x *explorer) attach(s modelState) {
	n := s
	if s.us[0].at == atCrash {
		c := &n.us[0]
		*c = modelClient{at: atLook, task: s.stepTask, env: s.stepEnv, answer: fromCrash, attached: true}
		switch {
		case x.without == lookAfterCrash && s.step == stepStarting:
			c.at = atPut
		case s.step == stepStarted:
			c.at = atWatch
		case s.step != stepStarting:
			c.say(blueapi.NotStarted)
		}
		x.emit("we, attached", "the journal is read", noTask, n)
		return
	}
	if x.second && s.us[1].at == atNothing && s.step != stepIntent {
		c := &n.us[1]
		*c = modelClient{at: atWatch, task: s.stepTask, env: s.stepEnv, attached: true}
		if x.without == onlyTheOwner {
			c.at, c.answer = atLook, fromCrash
			if s.step != stepStarting && s.step != stepStarted {
				c.say(blueapi.NotStarted)
			}
		}
		x.emit("a second process", "attaches to {}, which we own", s.stepTask, n)
	}
}
