package blueapi_test

import "github.com/adamant-go/adamant/blueapi"

// The model's client: run.go, look.go, watch.go and attach.go, a request at a time. Who
// changes those changes this. A read is one step, since one that is lost is made again,
// and one whose answer is late is a client that is slow to go on.

// modelPlace is what a client does next.
type modelPlace uint8

const (
	atNothing  modelPlace = iota
	atPost                // POST /tasks
	atCompare             // GET /environment, which must be as before the POST
	atStarting            // the journal: "PUT begins"
	atPut                 // PUT /worker/task
	atNotSent             // the journal: "not sent"
	atRetry               // is the environment as it was, and the task pending?
	atAnswer              // it awaits the answer
	atLook                // the first look
	atLook2               // the second
	atBefore              // GET /worker/task
	atState               // GET /worker/state
	atOther               // is another task in the worker's hand?
	atPending             // GET /tasks/{id}
	atDelete              // DELETE /tasks/{id}
	atAfter               // GET /worker/task
	atSame                // GET /environment, and what all of it means
	atAgain               // the journal: "withdrawn"
	atStarted             // the journal: "started"
	atWatch               // GET /tasks/{id}
	atWatch2              // GET /worker/task
	atWatch3              // GET /worker/state
	atWatch4              // GET /tasks/{id} of the other task
	atWatch5              // GET /tasks/{id} again
	atCrash               // the process is dead
	atEnd                 // it has said its word
)

// modelAnswer is what a client knows of its request to start a task.
type modelAnswer uint8

const (
	noAnswer modelAnswer = iota
	ok200
	conflict // 409
	notFound // 404
	text500
	fromCrash // somebody else sent it
)

func (a modelAnswer) refused() bool { return a == conflict || a == notFound }

// modelStep is a step in the journal.
type modelStep uint8

const (
	stepIntent modelStep = iota
	stepStarting
	stepNotSent
	stepStarted
	stepWithdrawn
)

type modelClient struct {
	at       modelPlace
	task     modelTask
	answer   modelAnswer
	env      uint8 // of the task
	before   modelTask
	after    modelTask
	idle     bool // the worker was, when it was read
	paused   bool
	again    bool // the DELETE was made before
	queued   bool // another task was in the worker's hand
	attached bool
	word     blueapi.Word
}

// hear is what an answer makes of a client that awaits it.
func (c *modelClient) hear(a modelAnswer) {
	c.answer = a
	switch {
	case a == ok200:
		c.at = atStarted
	case a.refused():
		c.at = atBefore // nothing to look for
	default:
		c.at = atLook
	}
}

func (c *modelClient) say(w blueapi.Word) { *c = modelClient{at: atEnd, task: c.task, word: w} }

// client emits what a client of ours can do next.
func (x *explorer) client(s modelState, i int) {
	c := s.us[i]
	who := [...]string{"we", "a second process"}[i]
	if c.attached && i == 0 {
		who = "we, attached"
	}
	do := func(text string, change func(n *modelState, c *modelClient)) {
		n := s
		change(&n, &n.us[i])
		x.emit(who, text, c.task, n)
	}
	record := s.record[c.task]
	answered := !s.locked()
	switch c.at {
	case atNothing, atCrash, atEnd:
		return
	case atPost:
		if !answered {
			break
		}
		do("POST -> {}", func(n *modelState, c *modelClient) { n.record[c.task], c.at = isPending, atCompare })
		if x.without == orphansAreLeftAlone && s.record[theirs] == isPending {
			do("the answer to a POST is lost; take another task that is like it", func(_ *modelState, c *modelClient) { c.task, c.at = theirs, atCompare })
		}
	case atCompare:
		if s.env != c.env && x.without != environmentIsCompared {
			do("GET /environment: another one, so make {} again", func(n *modelState, c *modelClient) {
				c.env, c.at, n.record[c.task] = s.env, atPost, isAbsent
			})
			break
		}
		do("GET /environment", func(_ *modelState, c *modelClient) { c.env, c.at = s.env, atStarting })
	case atStarting:
		do("the journal: PUT {} begins", func(n *modelState, c *modelClient) {
			if x.without != startingIsRecorded {
				n.note(stepStarting, c)
			}
			c.at = atPut
		})
	case atPut:
		x.put(s, i, do)
	case atNotSent:
		do("the journal: PUT {} was not sent", func(n *modelState, c *modelClient) {
			if x.without != notSentIsRecorded {
				n.note(stepNotSent, c)
			}
			c.at = atRetry
		})
	case atRetry:
		switch {
		case x.without == retryIsChecked:
			do("PUT {} again", func(_ *modelState, c *modelClient) { c.at = atStarting })
		case s.env != c.env:
			do("GET /environment: another one", func(n *modelState, c *modelClient) { c.env = s.env; n.newTask(c) })
		case !answered:
		case record == isAbsent:
			do("GET {}: 404", func(n *modelState, c *modelClient) { n.newTask(c) })
		case record == isPending:
			do("GET {}: pending", func(_ *modelState, c *modelClient) { c.at = atStarting })
		default:
			do("GET {}: begun", func(_ *modelState, c *modelClient) { c.at = atStarted })
		}
	case atAnswer:
		x.await(s, i, do)
	case atLook, atLook2:
		if answered {
			x.look(s, c, do)
		}
	case atBefore, atState, atOther, atPending, atDelete, atAfter, atSame, atAgain:
		if answered || c.at == atSame || c.at == atAgain {
			x.withdraw(s, c, do)
		}
	case atStarted:
		do("the journal: {} has started", func(n *modelState, c *modelClient) { n.note(stepStarted, c); c.at = atWatch })
	case atWatch, atWatch2, atWatch3, atWatch4, atWatch5:
		if answered {
			x.watch(s, c, do)
		}
	}
	if i == 0 && s.left.crashes > 0 && (!s.frozen || s.channel != c.task || x.chance == frozenUnheard) {
		do("crash", func(n *modelState, c *modelClient) {
			n.left.crashes--
			putting := c.at == atPut || c.at == atNotSent
			n.sent[c.task] = s.sent[c.task] || putting
			n.unclear = s.unclear || c.at >= atDelete && c.at <= atAgain || putting && s.env != c.env
			for k := range n.puts {
				if n.puts[k].from == 1 {
					n.puts[k].from = 0
				}
			}
			*c = modelClient{at: atCrash, task: c.task}
		})
	}
}

type doing func(text string, change func(n *modelState, c *modelClient))

// put sends a request to start the task, or tries to.
func (x *explorer) put(s modelState, i int, do doing) {
	send := func(n *modelState, c *modelClient, d modelDelay) {
		n.sent[c.task], c.at = true, atAnswer
		n.send(modelPut{task: c.task, delay: d, from: uint8(i) + 1})
	}
	do("PUT {}", func(n *modelState, c *modelClient) { send(n, c, prompt) })
	if s.left.copies > 0 {
		do("PUT {}, which a proxy sends twice", func(n *modelState, c *modelClient) {
			n.left.copies--
			n.send(modelPut{task: c.task})
			send(n, c, anyTime) // and the answer to the second is the one that we get
		})
	}
	if s.left.faults == 0 {
		return
	}
	do("PUT {}: connection refused", func(n *modelState, c *modelClient) { n.left.faults--; c.at = atNotSent })
	do("PUT {}, which is lost", func(n *modelState, c *modelClient) {
		n.left.faults--
		n.sent[c.task], c.at = true, atAnswer
	})
	do("PUT {}, which is late by seconds", func(n *modelState, c *modelClient) { n.left.faults--; send(n, c, seconds) })
	do("PUT {}, which is late by any time", func(n *modelState, c *modelClient) { n.left.faults--; send(n, c, anyTime) })
}

// await awaits the answer, in other ways than to have it.
func (x *explorer) await(s modelState, i int, do doing) {
	c := s.us[i]
	mine := -1
	for k, p := range s.puts {
		if p.from == uint8(i)+1 {
			mine = k
		}
	}
	stop := func(n *modelState, c *modelClient, a modelAnswer) {
		if mine >= 0 {
			n.puts[mine].from = 0
		}
		c.hear(a)
		if a == noAnswer && x.without == oneRequest {
			c.at = atPut
		}
	}
	late := mine >= 0 && s.puts[mine].delay > prompt
	if mine < 0 || late || s.left.faults > 0 {
		do("the connection is reset", func(n *modelState, c *modelClient) {
			if mine >= 0 && !late {
				n.left.faults--
			}
			stop(n, c, noAnswer)
		})
	}
	if mine >= 0 && s.puts[mine].stage == onTheWay && s.left.faults > 0 && s.puts[mine].delay < anyTime {
		do("a proxy says text 500, and PUT {} is late by seconds", func(n *modelState, c *modelClient) {
			n.left.faults--
			n.puts[mine].delay = seconds
			stop(n, c, text500)
		})
	}
	if s.locked() {
		return
	}
	if s.record[c.task] > isPending {
		do("GET {}: begun", func(n *modelState, c *modelClient) { stop(n, c, ok200) })
	}
	if !s.arriving(c.task, seconds) && late {
		do("GET {}: pending, twice, six seconds later", func(n *modelState, c *modelClient) { stop(n, c, noAnswer) })
	}
}

// look looks at the task until it has begun, or has not for long enough.
func (x *explorer) look(s modelState, c modelClient, do doing) {
	limit := prompt
	if (c.answer == text500 || c.answer == fromCrash) && x.without != sixSeconds {
		limit = seconds
	}
	switch r := s.record[c.task]; {
	case r == isAbsent:
		x.gone(do)
	case r != isPending:
		do("GET {}: begun", func(_ *modelState, c *modelClient) { c.at = atStarted })
	case c.at == atLook && x.without != twoLooks:
		do("GET {}: pending", func(_ *modelState, c *modelClient) { c.at = atLook2 })
	case c.at == atLook2 && s.arriving(c.task, limit):
		// It is not time yet.
	case x.without == deletedBeforeTheNext:
		do("GET {}: pending", func(n *modelState, c *modelClient) { n.newTask(c) })
	case x.without == workerReadFirst:
		do("GET {}: pending", func(_ *modelState, c *modelClient) { c.at = atPending })
	default:
		do("GET {}: pending", func(_ *modelState, c *modelClient) { c.at = atBefore })
	}
	x.away(s, do)
}

// away has the server be away for longer than a run is patient.
func (x *explorer) away(s modelState, do doing) {
	if s.left.faults > 0 {
		do("the server is away for a minute", func(n *modelState, c *modelClient) {
			n.left.faults--
			n.unclear = true
			c.say(blueapi.Unknown)
		})
	}
}

func (x *explorer) gone(do doing) {
	do("GET {}: 404", func(n *modelState, c *modelClient) {
		if x.without == goneIsUnknown {
			n.newTask(c)
			return
		}
		c.say(blueapi.Unknown)
	})
}

// withdraw takes the steps of a withdrawal.
func (x *explorer) withdraw(s modelState, c modelClient, do doing) {
	record := s.record[c.task]
	next := func(n *modelState, c *modelClient) { // the worker was read
		switch {
		case c.queued:
			c.queued, c.at = false, atLook
		case x.without == workerReadFirst:
			c.at = atDelete
		default:
			c.at = atPending
		}
		if c.at == atPending && x.without == pendingReadAgain {
			c.at = atDelete
		}
	}
	switch c.at {
	case atBefore:
		if c.answer == conflict && x.without == busyAfterWithdrawal {
			do("busy", func(_ *modelState, c *modelClient) { c.say(blueapi.NotStarted) })
			break
		}
		do("GET /worker/task", func(_ *modelState, c *modelClient) { c.before, c.at = s.current, atState })
	case atState:
		do("GET /worker/state", func(n *modelState, c *modelClient) {
			c.idle, c.at = s.engine == noTask, atOther
			if c.answer.refused() || x.without == othersAreAwaited {
				next(n, c)
			}
		})
	case atOther:
		o := c.before
		if o == noTask || o == c.task || s.record[o] >= isComplete || s.record[o] == isAbsent && c.idle {
			do("no other task is in the worker's hand", next)
			break
		}
		do("another task is in the worker's hand: wait", func(_ *modelState, c *modelClient) { c.queued, c.at = true, atLook })
		do("another task is in the worker's hand, for a minute", func(n *modelState, c *modelClient) { n.unclear = true; c.say(blueapi.Unknown) })
	case atPending:
		switch {
		case record == isAbsent:
			x.gone(do)
		case record != isPending:
			do("GET {}: begun", func(_ *modelState, c *modelClient) { c.at = atLook })
		case x.without == workerReadFirst:
			do("GET {}: pending", func(_ *modelState, c *modelClient) { c.at = atBefore })
		default:
			do("GET {}: pending", func(_ *modelState, c *modelClient) { c.at = atDelete })
		}
	case atDelete:
		x.delete(s, c, do)
	case atAfter:
		do("GET /worker/task", func(_ *modelState, c *modelClient) { c.after, c.at = s.current, atSame })
	case atSame:
		unknown := s.env != c.env && x.without != environmentReadAgain ||
			(c.after == c.task || c.after != c.before) && x.without != workerReadAgain ||
			c.answer == text500 && c.idle && x.without != stuckIsUnknown
		if unknown {
			do("GET /environment: nobody can tell", func(_ *modelState, c *modelClient) { c.say(blueapi.Unknown) })
			break
		}
		do("GET /environment: {} is withdrawn", func(_ *modelState, c *modelClient) { c.at = atAgain })
	case atAgain:
		do("the journal: {} is withdrawn", func(n *modelState, c *modelClient) {
			if x.without != withdrawnIsRecorded {
				n.note(stepWithdrawn, c)
			}
			if c.answer == conflict || !c.idle {
				c.say(blueapi.NotStarted) // busy
				return
			}
			n.newTask(c)
		})
	}
}

func (x *explorer) delete(s modelState, c modelClient, do doing) {
	if s.record[c.task] == isAbsent && !c.again {
		x.gone(do)
		return
	}
	do("DELETE {}", func(n *modelState, c *modelClient) { n.record[c.task], c.at = isAbsent, atAfter })
	if s.left.faults == 0 {
		return
	}
	lose := func(text string, change func(n *modelState, c *modelClient)) {
		do(text, func(n *modelState, c *modelClient) {
			n.left.faults--
			c.again = true
			change(n, c)
			if x.without == deletedForSure {
				c.at = atAfter
			}
		})
	}
	lose("DELETE {}, whose answer is lost", func(n *modelState, c *modelClient) { n.record[c.task] = isAbsent })
	lose("DELETE {}, which is lost", func(*modelState, *modelClient) {})
	if s.gone == noTask {
		lose("DELETE {}, which is late", func(n *modelState, c *modelClient) { n.gone = c.task })
	}
}

// newTask goes on with another task, if there may be one.
func (s *modelState) newTask(c *modelClient) {
	if c.attached || c.task != task1 {
		c.say(blueapi.NotStarted)
		return
	}
	*c = modelClient{at: atPost, task: task2, env: c.env}
}

func (s *modelState) note(step modelStep, c *modelClient) {
	s.step, s.stepTask, s.stepEnv = step, c.task, c.env
}
