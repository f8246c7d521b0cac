package retry_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/adamant-go/adamant/retry"
)

func ExampleDo() {
	tries := 0
	v, err := retry.Do(context.Background(), retry.Policy{}, func(context.Context, retry.Attempt) (string, error) {
		if tries++; tries < 3 {
			return "", errors.New("connection refused")
		}
		return "plans", nil
	})
	fmt.Println(v, err, tries)
	// Output: plans <nil> 3
}

func ExampleBackoff_Window() {
	shortest, longest := retry.Backoff{}.Window(5)
	fmt.Println(shortest, longest)
	// Output: 2.03125s 3.046875s
}

func ExamplePolicy_Validate() {
	p := retry.Policy{Attempts: 3, Outlast: time.Second}
	fmt.Println(p.Validate())
	// Output: retry: policy of 3 attempts lasts 625ms at least and cannot outlast an outage of 1s: allow more attempts or longer delays
}
