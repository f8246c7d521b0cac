package blueapi_test

// The model's world: the server as blueapi 1.21.1 is built (see sim.worker), the network,
// and other people. Each of them takes one step at a time, in any order.

// modelTask names a task.
type modelTask uint8

const (
	noTask modelTask = iota
	task1            // ours
	task2            // ours, made after task1 was withdrawn
	theirs           // another client's
)

func (t modelTask) String() string { return [...]string{"none", "T1", "T2", "X"}[t] }

// modelRecord is what GET /tasks/{id} says.
type modelRecord uint8

const (
	isAbsent      modelRecord = iota // 404
	isPending                        // is_pending
	isBegun                          // the worker's thread has taken it
	isComplete                       // is_complete
	isInterrupted                    // is_complete too, because the plan was paused or aborted
)

// modelStage is how far a request to start a task has come.
type modelStage uint8

const (
	onTheWay modelStage = iota + 1
	checked             // the server knows the task and saw no other one active
	waiting             // the task is in the worker's channel, and nobody else is answered
)

// modelDelay is how late a request is.
type modelDelay uint8

const (
	prompt  modelDelay = iota // within a second
	seconds                   // within six
	anyTime
)

type modelPut struct {
	task  modelTask
	stage modelStage // 0: there is no such request
	delay modelDelay
	from  uint8 // who waits for the answer: 1 + the index of the client; 0 for nobody
}

// modelState is all that there is. It is compared, so that no state is visited twice.
type modelState struct {
	us [2]modelClient // our process, and a second one that attaches to its run

	record [theirs + 1]modelRecord
	runs   [theirs + 1]uint8 // the truth
	ended  [theirs + 1]bool  // by itself, or aborted; not with the server
	sent   [theirs + 1]bool  // a request to start it may have been sent, as far as we can know

	puts  [4]modelPut
	gone  modelTask // its DELETE is still on the way
	env   uint8
	ghost modelTask // what the process before a reload has taken and not begun

	// The worker: what it has taken and not begun, what the run engine has, what is in
	// the channel with room for one, and the task of GET /worker/task.
	hand, engine, channel, current modelTask

	done   bool // current's own mark that it is complete, which outlives its record
	paused bool
	letGo  bool // the engine's plan was paused, so that the thread has gone on
	frozen bool // the thread does not take what is in the channel

	step     modelStep // the journal's last
	stepTask modelTask
	stepEnv  uint8
	left     modelBudget
	unclear  bool // something has happened that no client can settle
}

// modelBudget is how often things may happen yet.
type modelBudget struct{ faults, crashes, restarts, plans, deletes, pauses, freezes, copies uint8 }

// locked reports whether the worker's process answers nobody, because it waits for a
// plan to start.
func (s *modelState) locked() bool {
	for _, p := range s.puts {
		if p.stage == waiting {
			return true
		}
	}
	return false
}

// arriving reports whether a request to start the task is on the wire that is late by no
// more than d.
func (s *modelState) arriving(t modelTask, d modelDelay) bool {
	for _, p := range s.puts {
		if p.task == t && (p.stage == onTheWay || p.stage == checked) && p.delay <= d {
			return true
		}
	}
	return false
}

func (s *modelState) send(p modelPut) {
	for i := range s.puts {
		if s.puts[i].stage == 0 {
			p.stage = onTheWay
			s.puts[i] = p
			return
		}
	}
	panic("more requests than the model has room for")
}

// take has the worker's thread take what is in its channel, which it does at once.
func (s *modelState) take() {
	free := s.hand == noTask && (s.engine == noTask || s.letGo)
	if s.channel == noTask || !free || s.frozen {
		return
	}
	t := s.channel
	s.channel, s.current, s.done = noTask, t, false
	if s.record[t] == isPending {
		s.record[t] = isBegun
	}
	if c := s.us[0]; c.at == atDelete && c.task == t {
		s.unclear = true // within the round trip of the withdrawal
	}
	s.hand = t
}

// complete ends a task.
func (s *modelState) complete(t modelTask) {
	s.ended[t] = true
	if s.record[t] == isBegun {
		s.record[t] = isComplete
	}
	if s.current == t {
		s.done = true
	}
}

// publish lets who waits for an event of the task have the answer 200.
func (s *modelState) publish(t modelTask) {
	for i, p := range s.puts {
		if p.stage == waiting && p.task == t {
			s.answer(i, ok200)
		}
	}
}

func (s *modelState) answer(i int, a modelAnswer) {
	p := s.puts[i]
	s.puts[i] = modelPut{}
	if p.from > 0 {
		s.us[p.from-1].hear(a)
	}
}

// server emits what the server and the network can do next.
func (x *explorer) server(s modelState) {
	for i, p := range s.puts {
		n := s
		switch {
		case p.stage == onTheWay && !s.locked():
			switch {
			case s.record[p.task] == isAbsent:
				n.answer(i, notFound)
				x.emit("the server", "PUT {} arrives: 404", p.task, n)
			case s.current != noTask && !s.done:
				n.answer(i, conflict)
				x.emit("the server", "PUT {} arrives: 409", p.task, n)
			case x.copies > 0 && (s.dealsWith(p.task) || s.channel == p.task) && x.chance != copiesMeet:
			default:
				n.puts[i].stage = checked
				x.emit("the server", "PUT {} arrives: the task is known and no other one is active", p.task, n)
			}
		case p.stage == checked && !s.locked():
			switch r := s.record[p.task]; {
			case r != isPending && r != isBegun:
				n.answer(i, notFound)
				x.emit("the server", "PUT {}: 404, it is not pending any more", p.task, n)
			case s.engine != noTask || s.channel != noTask:
				n.answer(i, text500)
				x.emit("the server", "PUT {}: text 500, the worker is not idle or its channel is full", p.task, n)
			case s.hand == theirs && x.copies > 0 && x.chance != copyWaits:
			default:
				n.puts[i].stage, n.channel = waiting, p.task
				n.take()
				x.emit("the server", "PUT {}: into the worker's channel", p.task, n)
			}
		case p.stage == waiting && s.frozen && p.from == 0 && x.chance != frozenUnheard:
		case p.stage == waiting:
			n.answer(i, text500)
			x.emit("the server", "PUT {}: text 500, it has not started in 5 s", p.task, n)
		}
	}
	if s.hand != noTask {
		n := s
		n.hand = noTask
		if n.publish(s.hand); s.engine != noTask {
			n.complete(s.hand)
			x.emit("the worker", "cannot run {}, another plan is paused", s.hand, n)
		} else {
			n.engine, n.letGo = s.hand, false
			n.runs[s.hand]++
			x.emit("the worker", "runs {}", s.hand, n)
		}
	}
	if s.engine != noTask && !s.paused {
		n := s
		n.engine = noTask
		n.complete(s.engine)
		n.take()
		x.emit("the worker", "has run {}", s.engine, n)
	}
	if s.frozen {
		n := s
		n.frozen = false
		n.take()
		x.emit("the worker", "its thread wakes up", noTask, n)
	}
	if s.ghost != noTask {
		n := s
		n.ghost = noTask
		n.runs[s.ghost]++
		x.emit("the old worker", "runs {}, unseen", s.ghost, n)
	}
	if s.gone != noTask && !s.locked() {
		n := s
		n.gone, n.record[s.gone] = noTask, isAbsent
		x.emit("the server", "the late DELETE {} arrives", s.gone, n)
	}
}

func (s *modelState) dealsWith(t modelTask) bool {
	for _, p := range s.puts {
		if p.task == t && p.stage > onTheWay {
			return true
		}
	}
	return false
}

// others emits what other people can do next, and what can happen to the server.
func (x *explorer) others(s modelState) {
	if s.paused {
		n := s
		n.paused = false
		if s.hand == noTask || x.chance == resumedUnseen {
			x.emit("another client", "resumes {}", s.engine, n)
		}
		n.engine = noTask
		n.complete(s.engine)
		n.take()
		x.emit("another client", "aborts {}", s.engine, n)
	}
	if s.us[0].at == atEnd {
		return // what happens after the word is of no interest any more
	}
	if s.left.plans > 0 && !s.locked() {
		n := s
		n.left.plans--
		n.unclear = true
		n.record[theirs] = isPending
		n.send(modelPut{task: theirs, delay: anyTime})
		x.emit("another client", "POST -> {}, and PUT {}", theirs, n)
	}
	for t := task1; t <= theirs && s.left.deletes > 0 && !s.locked(); t++ {
		if hides := t == theirs && (s.hand == t || s.engine == t || s.channel == t || s.letGo); s.record[t] != isAbsent && (!hides || x.chance == recordHidden) {
			n := s
			n.left.deletes--
			n.unclear = true
			n.record[t] = isAbsent
			x.emit("another client", "DELETE {}", t, n)
		}
	}
	if s.left.pauses > 0 && s.engine != noTask && !s.paused && !s.locked() {
		n := s
		n.left.pauses--
		n.paused, n.letGo = true, true
		if s.record[s.engine] == isBegun {
			n.record[s.engine] = isInterrupted
		}
		n.done = n.done || s.current == s.engine
		n.take()
		x.emit("another client", "pauses {}", s.engine, n)
	}
	if s.left.freezes > 0 && !s.frozen && s.channel == noTask && s.hand == noTask {
		n := s
		n.left.freezes--
		n.frozen, n.unclear = true, true
		x.emit("the worker", "its thread stands still", noTask, n)
	}
	if s.left.restarts > 0 {
		n := s.restarted()
		x.emit("the server", "is restarted", noTask, n)
		if s.hand != noTask {
			n.ghost = s.hand
			x.emit("another client", "reloads the environment", noTask, n)
		}
	}
}

func (s modelState) restarted() modelState {
	n := s
	n.left.restarts--
	n.env++
	c := s.us[0]
	n.unclear = s.unclear || s.sent[c.task] || c.at == atStarting || c.at == atPut
	for t := task1; t <= theirs; t++ {
		n.record[t] = isAbsent
	}
	n.hand, n.engine, n.channel, n.current, n.gone = noTask, noTask, noTask, noTask, noTask
	n.done, n.paused, n.letGo, n.frozen = false, false, false, false
	for i, p := range s.puts {
		if p.stage > onTheWay {
			n.answer(i, noAnswer)
		}
	}
	return n
}
