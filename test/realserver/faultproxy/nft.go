//go:build linux

package faultproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// CanDrop returns nil if Dropped outages work here, or why not.
func CanDrop() error {
	if os.Geteuid() != 0 {
		return errors.New("not root")
	}
	return nft("list tables\n")
}

// table is named after the port: proxies of one machine do not meet.
func table(port int) string { return fmt.Sprintf("ip adamant_fault_%d", port) }

// dropPackets works on arrival, so that the tap still sees what was sent.
func dropPackets(port int) error {
	return nft(fmt.Sprintf(`table %s {
	chain input {
		type filter hook input priority 0; policy accept;
		tcp dport %d drop
		tcp sport %d drop
	}
}
`, table(port), port, port))
}

func deliverPackets(port int) error { return nft("delete table " + table(port) + "\n") }

func nft(commands string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	path, err := exec.LookPath("nft")
	if err != nil {
		path = "/usr/sbin/nft" // not everyone's PATH has it
	}
	cmd := exec.CommandContext(ctx, path, "-f", "-")
	cmd.Stdin = strings.NewReader(commands)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}
