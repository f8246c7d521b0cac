package blueapi_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/adamant-go/adamant/blueapi"
)

var update = flag.Bool("update", false, "write testdata instead of comparing with it")

// model is an explicit-state model of a run: what may happen, and how often. Time is in
// it only as order: a request that is late by seconds arrives before six of them are over.
type model struct {
	modelBudget
	second  bool // a second process attaches to the run while we own it
	chance  modelChance
	without modelRule
}

// modelMove is a step that somebody takes; {} in the text stands for the task.
type modelMove struct {
	who, text string
	task      modelTask
	to        modelState
}

func (m modelMove) String() string {
	return m.who + ": " + strings.ReplaceAll(m.text, "{}", m.task.String())
}

// explorer finds the states that can be reached.
type explorer struct {
	model
	moves []modelMove
}

func (x *explorer) emit(who, text string, t modelTask, n modelState) {
	slices.SortFunc(n.puts[:], func(a, b modelPut) int {
		key := func(p modelPut) int { return int(p.stage)<<12 | int(p.task)<<8 | int(p.delay)<<4 | int(p.from) }
		return key(b) - key(a)
	})
	x.moves = append(x.moves, modelMove{who, text, t, n})
}

func (x *explorer) next(s modelState) []modelMove {
	x.moves = x.moves[:0]
	for i := range s.us {
		x.client(s, i)
	}
	x.attach(s)
	x.server(s)
	x.others(s)
	return x.moves
}

// modelBreach is a promise that is broken, the worst last.
type modelBreach uint8

const (
	noBreach modelBreach = iota
	needlessUnknown
	notDone
	yetStarted
	ranTwice
)

func (b modelBreach) String() string {
	return [...]string{
		"all is well",
		"\"unknown\" is said, and there was a way to know",
		"\"done\" is said, and the plan has not ended",
		"\"not started\" is said, and the plan runs",
		"a plan runs twice",
	}[b]
}

// breach says which promise a state breaks.
func (s *modelState) breach() modelBreach {
	ran := s.runs[task1] + s.runs[task2]
	worst := noBreach
	for i, c := range s.us {
		t := c.task
		switch {
		case ran > 1, s.runs[theirs] > 1:
			return ranTwice
		case c.word == blueapi.NotStarted && ran > 0:
			worst = max(worst, yetStarted)
		case c.word == blueapi.Done && (!s.ended[t] || s.engine == t || s.hand == t || s.channel == t):
			worst = max(worst, notDone)
		case c.word == blueapi.Unknown && i == 0 && !s.unclear:
			worst = max(worst, needlessUnknown)
		}
	}
	return worst
}

// exploration is what was found.
type exploration struct {
	states  []modelState
	parents []int32
	edges   [][2]int32
	words   map[blueapi.Word]int
	breach  modelBreach // of the last state
}

// explore visits all states, the nearest first, until one breaks a promise at least as
// badly.
func (m model) explore(least modelBreach) *exploration {
	x := &explorer{model: m}
	start := modelState{left: m.modelBudget}
	start.us[0] = modelClient{at: atPost, task: task1}
	e := &exploration{states: []modelState{start}, parents: []int32{-1}, words: map[blueapi.Word]int{}}
	seen := map[modelState]int32{start: 0}
	for i := 0; i < len(e.states); i++ {
		for _, move := range x.next(e.states[i]) {
			to, ok := seen[move.to]
			if !ok {
				to = int32(len(e.states))
				seen[move.to] = to
				e.states, e.parents = append(e.states, move.to), append(e.parents, int32(i))
				e.words[move.to.us[0].word]++
				if b := move.to.breach(); b >= least {
					e.breach = b
					return e
				}
			}
			e.edges = append(e.edges, [2]int32{int32(i), to})
		}
	}
	return e
}

// path is how the last state came about.
func (e *exploration) path(m model) []string {
	x := &explorer{model: m}
	var path []string
	for i := int32(len(e.states) - 1); e.parents[i] >= 0; i = e.parents[i] {
		moves := x.next(e.states[e.parents[i]])
		k := slices.IndexFunc(moves, func(m modelMove) bool { return m.to == e.states[i] })
		path = append(path, moves[k].String())
	}
	slices.Reverse(path)
	return path
}

// stuck counts the states from which we never come to a word.
func (e *exploration) stuck() int {
	from := make([][]int32, len(e.states))
	for _, edge := range e.edges {
		from[edge[1]] = append(from[edge[1]], edge[0])
	}
	ends := make([]bool, len(e.states))
	var queue []int32
	for i := range e.states {
		if e.states[i].us[0].at == atEnd {
			ends[i] = true
			queue = append(queue, int32(i))
		}
	}
	reached := len(queue)
	for len(queue) > 0 {
		i := queue[0]
		queue = queue[1:]
		for _, j := range from[i] {
			if !ends[j] {
				ends[j] = true
				reached++
				queue = append(queue, j)
			}
		}
	}
	return len(e.states) - reached
}

// worst returns the shortest way to the worst that a model can come to, in words.
func (m model) worst(t *testing.T) string {
	t.Helper()
	for b := ranTwice; b > noBreach; b-- {
		if e := m.explore(b); e.breach == b {
			return b.String() + "\n\t" + strings.Join(e.path(m), "\n\t") + "\n"
		}
	}
	return ""
}

// holds explores a model that must break no promise.
func (m model) holds(t *testing.T) {
	t.Helper()
	e := m.explore(needlessUnknown)
	if e.breach > noBreach {
		t.Errorf("%+v: %v\n\t%s", m.modelBudget, e.breach, strings.Join(e.path(m), "\n\t"))
		return
	}
	if n := e.stuck(); n > 0 {
		t.Errorf("%+v: from %d of %d states there is no way to a word", m.modelBudget, n, len(e.states))
	}
	t.Logf("%+v: %d states, %d steps, %v", m.modelBudget, len(e.states), len(e.edges), e.words)
}

// TestModel takes each rule of the run protocol out of a model in which no promise can
// be broken, and then one can. How, the golden file tells, and -v prints. In the same
// way it shows what DESIGN.md says no client can settle.
func TestModel(t *testing.T) {
	var golden strings.Builder
	held := map[model]bool{}
	for _, r := range modelRules() {
		m := r.model
		if !held[m] {
			held[m] = true
			m.holds(t)
		}
		m.without = r.rule
		worst := m.worst(t)
		if worst == "" {
			t.Errorf("without the rule %q no promise is broken", r.sentence)
			continue
		}
		fmt.Fprintf(&golden, "Without the rule that %s, %s\n", r.sentence, worst)
	}
	for _, c := range modelChances() {
		m := c.model
		m.chance = c.chance
		worst := m.worst(t)
		if worst == "" {
			t.Errorf("no promise is broken if %s", c.sentence)
			continue
		}
		fmt.Fprintf(&golden, "Whatever the rules: if %s, %s\n", c.sentence, worst)
	}
	t.Logf("\n%s", &golden)
	file := filepath.Join("testdata", "model_counterexamples.txt")
	if *update {
		if err := os.WriteFile(file, []byte(golden.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), golden.String()); diff != "" {
		t.Errorf("not as in %s (-update writes it):\n%s", file, diff)
	}
}

// TestModelAtLarge lets more happen than it takes to need the rules.
func TestModelAtLarge(t *testing.T) {
	budgets := []modelBudget{
		{faults: 2, crashes: 1, restarts: 1},
		{faults: 2, crashes: 1, plans: 1},
		{faults: 1, crashes: 1, plans: 1, restarts: 1},
		{faults: 1, crashes: 1, plans: 1, pauses: 1},
		{faults: 1, pauses: 1, restarts: 1},
		{faults: 1, plans: 1, deletes: 1},
		{faults: 1, copies: 1, plans: 1},
		{crashes: 1, freezes: 1, restarts: 1},
	}
	if everything() {
		budgets = []modelBudget{
			{faults: 4, crashes: 2, restarts: 1},
			{faults: 3, crashes: 1, plans: 1, restarts: 1},
			{faults: 2, crashes: 2, plans: 1, restarts: 1},
			{faults: 2, crashes: 1, plans: 1, pauses: 1, deletes: 1},
			{faults: 2, crashes: 1, plans: 1, pauses: 1, restarts: 1},
			{faults: 2, crashes: 1, plans: 1, deletes: 1, restarts: 1},
			{faults: 1, crashes: 1, plans: 1, restarts: 1, freezes: 1, copies: 1},
		}
	}
	for _, b := range budgets {
		model{modelBudget: b}.holds(t)
		if b.plans == 0 { // which makes room for
			model{modelBudget: b, second: true}.holds(t)
		}
	}
}
