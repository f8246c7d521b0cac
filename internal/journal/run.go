package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Step is a step of a run. What its comment says of the plan is true while it is
// the last one that is recorded.
type Step string

// The steps.
const (
	// Intent: the run is wanted. Nothing was started.
	Intent Step = "intent"
	// Starting: the request to start the task is about to be sent, or was sent.
	// The plan may have been started.
	Starting Step = "starting"
	// NotSent: that request was not sent after all.
	NotSent Step = "not sent"
	// Started: the server has taken the task.
	Started Step = "started"
	// Withdrawn: the task was deleted before it could start.
	Withdrawn Step = "withdrawn"
	// Ended: the run has its word.
	Ended Step = "ended"
)

// Word says in one word what became of a run.
type Word string

// The words.
const (
	Done       Word = "done"
	NotStarted Word = "not started"
	Unknown    Word = "unknown"
)

// Limits of what is kept of one run, in bytes.
const (
	// maxName is for what identifies something. A longer one is refused.
	maxName = 1 << 10
	// maxText is for what is only read by people. A longer one is cut.
	maxText = 4 << 10
	// maxJSON is for parameters and results. Longer ones are left out, since a
	// part of them is worth nothing.
	maxJSON = 16 << 10
)

// Request is what a run asks for.
type Request struct {
	// ID identifies the run. It must be unique.
	ID string
	// At is when it was wanted.
	At time.Time
	// Server is the server's URL. User, password, query and fragment are not
	// kept, and what says nothing is not either: see [ServerName].
	Server string
	Plan   string
	// Params are the plan's arguments. More than 16 KiB are not kept.
	Params json.RawMessage
	// Session is the instrument session.
	Session string
	// Key is the user's own name for the run, which no other run may have that
	// has started its plan, or may have; "" if there is none.
	Key string
}

// Process is the process that a run was begun in.
type Process struct {
	PID  int
	Host string
	// Boot identifies the boot of the machine, without which a PID says little;
	// "" if it is not known.
	Boot string
	// User is the account's name as $USER has it, or its number.
	User string
}

// Entry is a step of a run.
type Entry struct {
	Step Step
	At   time.Time
	// Task and Environment are the task's id and that of the environment that
	// it was made in; both are set from Starting on, and may be at the end. Over a
	// WebSocket the server makes the task, which is not known until Started.
	Task, Environment string
	// End is set if Step is Ended.
	End *End
}

// End is what became of a run.
type End struct {
	Word   Word
	Reason string
	// Message is what the user was told, or the exception's text. What is beyond
	// 4 KiB is cut off.
	Message string
	// Outcome is how the plan ended, in the server's words; "" if that is not
	// recorded. Type is the Python type of the result or the exception.
	Outcome, Type string
	// Result is what the plan returned. More than 16 KiB are not kept.
	Result json.RawMessage
	// ResultSize is the size of the result, kept or not. It is set when read.
	ResultSize int
}

// Run is what the journal has of a run.
type Run struct {
	Request
	// ParamsSize is the size of the parameters, kept or not, and ParamsDigest their
	// [Digest].
	ParamsSize   int
	ParamsDigest string
	Process      Process
	// Entries are the steps after the intent, oldest first.
	Entries []Entry
}

// Last returns the last step.
func (r Run) Last() Entry {
	if n := len(r.Entries); n > 0 {
		return r.Entries[n-1]
	}
	return Entry{Step: Intent, At: r.At}
}

// Task returns the last task that was recorded and its environment; "" if none
// was.
func (r Run) Task() (task, environment string) {
	for _, e := range slices.Backward(r.Entries) {
		if e.Task != "" {
			return e.Task, e.Environment
		}
	}
	return "", ""
}

// End returns what became of the run, or nil if that was not recorded: it goes on,
// or its owner died. Of several, the last one is true: a run that was unknown may
// have been settled since.
func (r Run) End() *End { return r.Last().End }

// NotStarted reports whether the run has not started its plan, by what is
// recorded. If its owner is dead too, the run never will.
func (r Run) NotStarted() bool {
	switch last := r.Last(); last.Step {
	case Intent, NotSent, Withdrawn:
		return true
	case Ended:
		return last.End.Word == NotStarted
	case Starting, Started:
	}
	return false
}

// Query selects runs. The zero Query selects the latest 20.
type Query struct {
	// ID, Task, Key and Plan select by what they name, and Server the runs at a
	// server, by its [ServerName]; "" selects all.
	ID, Task, Key, Plan, Server string
	// Since selects the runs that were wanted then or later.
	Since time.Time
	// Word selects the runs that ended with it; "" selects all.
	Word Word
	// Unfinished selects the runs whose last step is no end. Whether they go on,
	// [Journal.Owned] tells.
	Unfinished bool
	// Unsettled selects the runs that may have started their plan, of which nobody
	// knows: their last step is Starting, or they ended Unknown after it.
	Unsettled bool
	// Limit is how many are returned at most; 0 means 20.
	Limit int
}

// Runs returns runs, those that were begun last first. Finding none is no error.
func (j *Journal) Runs(ctx context.Context, q Query) ([]Run, error) {
	var runs []Run
	err := j.read(ctx, func(ctx context.Context, tx *sql.Tx) (err error) {
		runs, err = findRuns(ctx, tx, q)
		return err
	})
	return runs, err
}

// Tasks returns the tasks that were started at a server, or may have been. The server
// is named by its [ServerName].
func (j *Journal) Tasks(ctx context.Context, server string) ([]string, error) {
	var tasks []string
	err := j.read(ctx, func(ctx context.Context, tx *sql.Tx) error {
		tasks = nil
		rows, err := tx.QueryContext(ctx, `
			SELECT DISTINCT task FROM steps JOIN runs ON runs.number = steps.run
			WHERE task <> '' AND server = ?`, server)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var task string
			if err := scan(rows, &task); err != nil {
				return err
			}
			tasks = append(tasks, task)
		}
		return rows.Err()
	})
	return tasks, err
}

func findRuns(ctx context.Context, tx *sql.Tx, q Query) ([]Run, error) {
	where, args := "1", []any{}
	and := func(condition string, value ...any) {
		where += " AND " + condition
		args = append(args, value...)
	}
	if q.ID != "" {
		and("id = ?", q.ID)
	}
	if q.Task != "" {
		and("number IN (SELECT run FROM steps WHERE task = ?)", q.Task)
	}
	if q.Key != "" {
		and("key = ?", q.Key)
	}
	if q.Plan != "" {
		and("plan = ?", q.Plan)
	}
	if q.Server != "" {
		and("server = ?", q.Server)
	}
	if !q.Since.IsZero() {
		and("begun >= ?", q.Since.UnixNano())
	}
	const last = "(SELECT %s FROM steps WHERE run = runs.number ORDER BY number DESC LIMIT 1)"
	if q.Word != "" {
		and(fmt.Sprintf(last, "word")+" = ?", string(q.Word))
	}
	if q.Unfinished {
		and(fmt.Sprintf(last, "step")+" IS NOT ?", string(Ended))
	}
	if q.Unsettled {
		and(`(SELECT step FROM steps WHERE run = runs.number AND (step <> ? OR word <> ?) ORDER BY number DESC LIMIT 1) = ?`,
			string(Ended), string(Unknown), string(Starting))
	}
	limit := q.Limit
	if limit == 0 {
		limit = 20
	}
	rows, err := tx.QueryContext(ctx, `
		SELECT number, id, begun, server, plan, session, key, pid, host, boot, user, params_size, params_digest,
			coalesce((SELECT text FROM texts WHERE run = runs.number AND step = 0), '')
		FROM runs WHERE `+where+` ORDER BY number DESC LIMIT ?`, append(args, limit)...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var runs []Run
	var numbers []int64
	for rows.Next() {
		var r Run
		var number, at int64
		var params string
		if err := scan(rows, &number, &r.ID, &at, &r.Server, &r.Plan, &r.Session, &r.Key,
			&r.Process.PID, &r.Process.Host, &r.Process.Boot, &r.Process.User, &r.ParamsSize, &r.ParamsDigest, &params); err != nil {
			return nil, err
		}
		r.At, r.Params = time.Unix(0, at), rawJSON(params)
		runs, numbers = append(runs, r), append(numbers, number)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	for i, number := range numbers {
		if runs[i].Entries, err = findEntries(ctx, tx, number); err != nil {
			return nil, err
		}
	}
	return runs, nil
}

// scan reads a row of columns that have types.
func scan(rows *sql.Rows, to ...any) error {
	err := rows.Scan(to...)
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("%w: %w", errDamaged, err)
}

func findEntries(ctx context.Context, tx *sql.Tx, run int64) ([]Entry, error) {
	rows, err := tx.QueryContext(ctx, `
		SELECT step, at, task, environment, word, reason, message, outcome, type, result_size,
			coalesce((SELECT text FROM texts WHERE run = steps.run AND step = steps.number), '')
		FROM steps WHERE run = ? ORDER BY number`, run)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var entries []Entry
	for rows.Next() {
		var e Entry
		var end End
		var at int64
		var result string
		if err := scan(rows, &e.Step, &at, &e.Task, &e.Environment, &end.Word, &end.Reason, &end.Message,
			&end.Outcome, &end.Type, &end.ResultSize, &result); err != nil {
			return nil, err
		}
		e.At = time.Unix(0, at)
		if e.Step == Ended {
			end.Result = rawJSON(result)
			e.End = &end
		}
		if err := e.check(); err != nil {
			return nil, fmt.Errorf("%w: %w", errDamaged, err)
		}
		entries = append(entries, e)
	}
	return entries, rows.Err()
}

// clean returns the request as it is kept.
func (r Request) clean() (Request, error) {
	var err error
	if r.Server, err = ServerName(r.Server); err != nil {
		return r, err
	}
	if r.ID == "" || r.Plan == "" || r.At.IsZero() {
		return r, fmt.Errorf("journal: a run needs an id, a plan and a time")
	}
	return r, checkNames(r.ID, r.Server, r.Plan, r.Session, r.Key)
}

// ServerName is how a journal names a server: its URL without user, password, query
// and fragment, and without what makes no difference, so that a server has one name
// however its URL is written.
func ServerName(server string) (string, error) {
	u, err := url.Parse(server)
	if err != nil || u.Host == "" {
		return "", fmt.Errorf("journal: the server is not named by a URL") // which may hold a password
	}
	host := strings.ToLower(u.Host)
	if port := map[string]string{"http": ":80", "https": ":443"}[u.Scheme]; port != "" {
		host = strings.TrimSuffix(host, port)
	}
	return (&url.URL{Scheme: u.Scheme, Host: host, Path: strings.TrimRight(u.Path, "/")}).String(), nil
}

// check refuses an entry that says nothing.
func (e Entry) check() error {
	switch e.Step {
	case Starting, NotSent, Started, Withdrawn:
		if e.Task == "" && (e.Step == Started || e.Step == Withdrawn) || e.End != nil {
			return fmt.Errorf("journal: an entry %q needs a task, and has no end", e.Step)
		}
		return nil
	case Ended:
		if e.End == nil {
			return fmt.Errorf("journal: the entry of an end has none")
		}
		switch e.End.Word {
		case Done, NotStarted, Unknown:
			return nil
		}
		return fmt.Errorf("journal: no word %q", e.End.Word)
	case Intent: // is in the request
	}
	return fmt.Errorf("journal: no step %q", e.Step)
}

// clean returns the entry as it is kept.
func (e Entry) clean() (Entry, error) {
	if err := e.check(); err != nil {
		return e, err
	}
	if e.At.IsZero() {
		return e, fmt.Errorf("journal: an entry needs a time")
	}
	names := []string{e.Task, e.Environment}
	if e.End != nil {
		end := *e.End
		end.Message = cleanText(end.Message)
		e.End = &end
		names = append(names, end.Reason, end.Outcome, end.Type)
	}
	return e, checkNames(names...)
}

func checkNames(names ...string) error {
	for _, s := range names {
		if len(s) > maxName {
			return fmt.Errorf("journal: %.20q... is longer than %d bytes", s, maxName)
		}
	}
	return nil
}

// cleanText takes users and passwords out of the URLs in s, and cuts it.
func cleanText(s string) string {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, "://")
		b.WriteString(before)
		if !found {
			break
		}
		b.WriteString("://")
		end := strings.IndexAny(after, "/?# \t\r\n\"'<>")
		if end < 0 {
			end = len(after)
		}
		s = after[strings.LastIndex(after[:end], "@")+1:]
	}
	text := b.String()
	if len(text) > maxText {
		text = text[:maxText]
	}
	return strings.ToValidUTF8(text, "") // the cut may have hit a character
}

// keepJSON writes the parameters of a run (step 0) or the result of a step, if they
// are not too long.
func keepJSON(ctx context.Context, tx *sql.Tx, run, step int64, raw json.RawMessage) error {
	if len(raw) == 0 || len(raw) > maxJSON {
		return nil
	}
	_, err := tx.ExecContext(ctx, "INSERT INTO texts (run, step, text) VALUES (?, ?, ?)", run, step, string(raw))
	return err
}

func rawJSON(kept string) json.RawMessage {
	if kept == "" {
		return nil
	}
	return json.RawMessage(kept)
}
