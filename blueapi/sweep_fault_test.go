package blueapi_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/adamant-go/adamant/blueapi"
)

// sweepSeries is a plan, and what may befall its run.
type sweepSeries struct {
	name   string
	plan   blueapi.TaskRequest
	broker bool
	// first and second are the faults of the first and of the second hit of a pair, if
	// they are at requests; frames, if they are at frames.
	first, second, frames []*sweepFault
	limit                 time.Duration
}

func sweepSeriesAll() []*sweepSeries {
	faults, brokers := requestFaults(), brokerFaults()
	both := slices.Concat(faults, brokers)
	frames := slices.Concat(frameFaults(), brokers)
	quick := request("nap", `{"seconds":0.51}`)
	return []*sweepSeries{
		{name: "quick plan", plan: quick, first: faults, second: faults, limit: sweepLimit},
		{name: "slow plan", plan: request("slow_start", `{"seconds":6.01}`), first: faults, second: faults, limit: sweepLimit},
		{name: "quick plan, followed", plan: request("many_events", `{"n":1,"delay":0.3}`), broker: true, first: both, second: both, frames: frames, limit: sweepLimit},
		{name: "long plan, followed", plan: request("nap", `{"seconds":12.01}`), broker: true, first: brokers, frames: frames, limit: sweepLimit},
		{name: "another client", plan: quick, first: others(), second: slices.Concat(faults, others()), limit: sweepLimit},
		{name: "another client, followed", plan: quick, broker: true, first: others(), second: slices.Concat(faults, others()), frames: frames, limit: sweepLimit},
	}
}

// sweepTally adds up what was played.
type sweepTally struct {
	cases   int
	words   map[blueapi.Word]int
	reasons map[blueapi.Reason]int
	slowest time.Duration
	which   sweepCase
}

func (s *sweepTally) add(c sweepCase, p played) {
	if s.words == nil {
		s.words, s.reasons = map[blueapi.Word]int{}, map[blueapi.Reason]int{}
	}
	s.cases++
	s.words[p.result.Word]++
	s.reasons[p.result.Reason]++
	if p.took > s.slowest {
		s.slowest, s.which = p.took, c
	}
}

func (s *sweepTally) String() string {
	return fmt.Sprintf("%d cases, %v, reasons %v, slowest %v in %v", s.cases, s.words, s.reasons, s.slowest, s.which)
}

// singles are all cases of one fault.
func (s *sweepSeries) singles(requests, frames int) (all []sweepCase) {
	for k := 1; k <= requests; k++ {
		for _, f := range s.first {
			all = append(all, sweepCase{s, []hit{{f, k, false}}})
		}
	}
	for k := 1; k <= frames; k++ {
		for _, f := range s.frames {
			all = append(all, sweepCase{s, []hit{{f, k, true}}})
		}
	}
	return all
}

// pairs are all cases in which another fault follows that of c, at a later message of the
// same kind or at any of the other kind. Where a run asks the same again and again, the
// first three times are taken, and the last.
func (c sweepCase) pairs(p played) (all []sweepCase) {
	first := c.hits[0]
	if !first.frame {
		for _, k := range distinct(p.asked, first.at) {
			for _, f := range c.series.second {
				all = append(all, sweepCase{c.series, []hit{first, {f, k, false}}})
			}
		}
	}
	from := 1
	if first.frame {
		from = first.at + 1
	}
	for k := from; k <= p.frames; k++ {
		for _, f := range c.series.frames {
			all = append(all, sweepCase{c.series, []hit{first, {f, k, true}}})
		}
	}
	return all
}

// distinct are the numbers of the requests after the given one that are not the same
// over and over again.
func distinct(asked []string, after int) (numbers []int) {
	times, last := map[string]int{}, map[string]int{}
	for i, what := range asked {
		last[what] = i
	}
	for i, what := range asked {
		if i < after {
			continue
		}
		if times[what]++; times[what] <= 3 || i == last[what] {
			numbers = append(numbers, i+1)
		}
	}
	return numbers
}

// TestSweepFaults puts every fault at every message of a run, and then every other one at
// every later message: the plan never runs twice, the word and its reason are true, the
// run comes to an end, and its events are whole or their gaps are told. A PUT that a proxy
// sends twice while the server stands still takes two faults at one message, and is not
// among them: see TestDuplicatedByAProxy.
func TestSweepFaults(t *testing.T) {
	for _, s := range sweepSeriesAll() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			plain := sweepCase{s, nil}.play(t)
			if plain.wrong != "" || plain.result.Word != blueapi.Done {
				t.Fatalf("without a fault: %s, %+v", plain.wrong, plain)
			}
			rng := rand.New(rand.NewPCG(1, 7))
			var tally sweepTally
			play := func(c sweepCase) played {
				p := c.play(t)
				tally.add(c, p)
				if p.wrong != "" {
					t.Errorf("%v: %s", c, p.wrong)
				}
				return p
			}
			begin := time.Now()
			for _, c := range s.singles(len(plain.asked), plain.frames) {
				if !everything() && rng.IntN(3) != 0 {
					continue
				}
				pairs := c.pairs(play(c))
				if !everything() && len(pairs) > 0 {
					pairs = []sweepCase{pick(rng, pairs), pick(rng, pairs)}
				}
				for _, c := range pairs {
					play(c)
				}
			}
			t.Logf("%d requests and %d frames without a fault; %v; in %v", len(plain.asked), plain.frames, &tally, time.Since(begin).Round(time.Millisecond))
		})
	}
}
