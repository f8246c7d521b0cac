package journal_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/adamant-go/adamant/internal/journal"
)

func Example() {
	ctx := context.Background()
	home, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(home)
	j, err := journal.Open(ctx, filepath.Join(home, "adamant")) // a program asks FindPlace
	if err != nil {
		panic(err)
	}
	defer j.Close()

	owner, err := j.Begin(ctx, journal.Request{ID: "5d1c", At: time.Now(), Server: "http://localhost:8000", Plan: "count", Key: "dawn"})
	if err != nil {
		panic(err)
	}
	// Here a task is stored. What follows is on the disk before it is started.
	err = owner.Record(ctx, journal.Entry{Step: journal.Starting, At: time.Now(), Task: "t1", Environment: "e1"})
	if err != nil {
		panic(err)
	}
	owner.Close() // as if the process had died

	// Another process comes to look.
	runs, err := j.Runs(ctx, journal.Query{Unfinished: true})
	if err != nil {
		panic(err)
	}
	for _, r := range runs {
		owned, err := j.Owned(r.ID)
		if err != nil {
			panic(err)
		}
		task, _ := r.Task()
		fmt.Printf("plan %s, task %s: owned: %v, not started: %v\n", r.Plan, task, owned, r.NotStarted())
	}
	_, err = j.Begin(ctx, journal.Request{ID: "77e0", At: time.Now(), Server: "http://localhost:8000", Plan: "count", Key: "dawn"})
	fmt.Println(err)
	// Output:
	// plan count, task t1: owned: false, not started: false
	// the key "dawn" was used before, for plan count
}
