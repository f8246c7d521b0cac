// Package adamant is the root of a module that keeps lab-control clients
// working through network glitches. It holds no code of its own. Import what
// you need:
//
//	retry            do a thing again, but not too often
//	retryhttp        what HTTP says about retrying, and a RoundTripper that heeds it
//	blueapi          a client of the blueapi server, which runs bluesky plans
//	blueapi/sim      a blueapi server in memory that fails when told to
//
// or install the program:
//
//	go install github.com/adamant-go/adamant/cmd/adamant@latest
//	adamant demo
//
// Behind them are
//
//	internal/config  blueapi's configuration files and environment variables
//	internal/memnet  a network in memory, for tests in virtual time
//	test/realserver  the real blueapi and its broker, for tests
//
// Imports point down; layout_test.go draws the arrows.
package adamant
