package blueapi_test

// modelRule is one rule of the run protocol, which a model can do without.
type modelRule uint8

const (
	allRules modelRule = iota
	oneRequest
	twoLooks
	sixSeconds
	goneIsUnknown
	workerReadFirst
	othersAreAwaited
	pendingReadAgain
	deletedBeforeTheNext
	deletedForSure
	workerReadAgain
	environmentReadAgain
	stuckIsUnknown
	busyAfterWithdrawal
	environmentIsCompared
	retryIsChecked
	orphansAreLeftAlone
	startingIsRecorded
	notSentIsRecorded
	withdrawnIsRecorded
	lookAfterCrash
	onlyTheOwner
	pauseIsNoEnd
	recordReadFirst
	anotherIsNoEnd
	recordReadAgain
)

type modelRuleCase struct {
	rule     modelRule
	sentence string
	model    model // in which it makes a difference
}

func modelRules() []modelRuleCase {
	with := func(b modelBudget) model { return model{modelBudget: b} }
	return []modelRuleCase{
		{oneRequest, "a task is put on the wire in at most one request to start it", with(modelBudget{faults: 1})},
		{twoLooks, "a task is withdrawn only when it is pending in two looks, a second apart", with(modelBudget{faults: 1})},
		{sixSeconds, "after a text 500 the second look is made six seconds after the PUT", with(modelBudget{faults: 1})},
		{goneIsUnknown, "a task that the server does not know any more may have run", with(modelBudget{faults: 1, restarts: 1})},
		{workerReadFirst, "the worker's task is read before the last look at ours", with(modelBudget{faults: 1, plans: 1})},
		{othersAreAwaited, "a task is not withdrawn while another one is in the worker's hand", with(modelBudget{faults: 1, plans: 1})},
		{pendingReadAgain, "a task is looked at once more just before it is deleted", with(modelBudget{faults: 1})},
		{deletedBeforeTheNext, "a task is deleted before another one is made", with(modelBudget{faults: 1})},
		{deletedForSure, "the DELETE is repeated until it is answered", with(modelBudget{faults: 2})},
		{workerReadAgain, "after the deletion the worker must have the task that it had before", with(modelBudget{faults: 1})},
		{environmentReadAgain, "after the deletion the environment must be the task's", with(modelBudget{faults: 1, restarts: 1})},
		{stuckIsUnknown, "a text 500 of an idle worker is unknown", with(modelBudget{freezes: 1})},
		{busyAfterWithdrawal, "busy is said only after a withdrawal", with(modelBudget{copies: 1, plans: 1})},
		{environmentIsCompared, "the environment is compared after the POST", with(modelBudget{restarts: 1})},
		{retryIsChecked, "a PUT that was not sent is sent again only if the environment is the same and the task pending", with(modelBudget{faults: 1, restarts: 1})},
		{orphansAreLeftAlone, "a task like ours is not taken for ours", with(modelBudget{plans: 1})},
		{startingIsRecorded, "the journal has that a PUT begins before it does", with(modelBudget{crashes: 1})},
		{notSentIsRecorded, "the journal has that a PUT was not sent", with(modelBudget{faults: 1, crashes: 1, restarts: 1})},
		{withdrawnIsRecorded, "the journal has that a task was withdrawn before another one is made", with(modelBudget{faults: 1, crashes: 1})},
		{lookAfterCrash, "after a crash the task is looked at, not started", with(modelBudget{faults: 1, crashes: 1})},
		{onlyTheOwner, "who does not own a run only watches it", model{modelBudget: modelBudget{faults: 1}, second: true}},
		{pauseIsNoEnd, "a plan that was interrupted has ended only if the worker is done with it", with(modelBudget{pauses: 1})},
		{recordReadFirst, "the record is read before the worker", with(modelBudget{pauses: 1})},
		{anotherIsNoEnd, "a plan that was interrupted has not ended because the worker has taken another task", with(modelBudget{plans: 1, pauses: 1})},
		{recordReadAgain, "the record of a plan that was interrupted is read after the worker too", with(modelBudget{pauses: 1, restarts: 1})},
	}
}

// modelChance is a coincidence of which no client can learn. They are left out of what
// may happen, but for one.
type modelChance uint8

const (
	noChance modelChance = iota
	copiesMeet
	copyWaits
	frozenUnheard
	recordHidden
	resumedUnseen
)

type modelChanceCase struct {
	chance   modelChance
	sentence string
	model    model
}

func modelChances() []modelChanceCase {
	with := func(b modelBudget) model { return model{modelBudget: b} }
	return []modelChanceCase{
		{copiesMeet, "a proxy sends a PUT twice, and the server deals with both at the same time", with(modelBudget{copies: 1})},
		{copyWaits, "a proxy sends a PUT twice, and one of them waits in the worker's channel behind another client's task", with(modelBudget{copies: 1, plans: 1})},
		{frozenUnheard, "the worker's thread stands still for 5 s, and the text 500 that tells of it is lost", with(modelBudget{faults: 1, freezes: 1})},
		{recordHidden, "the record of another task is deleted while the worker has it", with(modelBudget{faults: 1, plans: 1, deletes: 1})},
		{resumedUnseen, "our plan is paused, another task taken, and ours resumed before that one has failed", with(modelBudget{plans: 1, pauses: 1})},
	}
}
