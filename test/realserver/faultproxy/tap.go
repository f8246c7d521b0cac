//go:build linux

package faultproxy

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// tap watches the packets to one port of loopback, and so sees connection
// attempts that no listener answers. It needs root.
type tap struct {
	file *os.File
	raw  syscall.RawConn
	done chan struct{}

	mu   sync.Mutex
	byID map[tapID]bool  // what was counted already
	last map[int]*stream // by client port
	seen []Send
}

// tapID tells a packet that is sent again, by its sequence number, from a new
// one.
type tapID struct {
	port int
	seq  uint32
}

type stream struct{ requests int }

func openTap(port int, attempted func()) (*tap, error) {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return nil, err
	}
	const ip = 0x0008 // ETH_P_IP in network order; hooks for one protocol see a packet of lo once
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_DGRAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, ip)
	if err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	err = syscall.AttachLsf(fd, []syscall.SockFilter{ //nolint:staticcheck // deprecated for x/net, which this is not worth
		*syscall.LsfStmt(syscall.BPF_LDX|syscall.BPF_B|syscall.BPF_MSH, 0), //nolint:staticcheck // as above
		*syscall.LsfStmt(syscall.BPF_LD|syscall.BPF_H|syscall.BPF_IND, 2),  //nolint:staticcheck // as above
		*syscall.LsfJump(syscall.BPF_JMP|syscall.BPF_JEQ, port, 0, 1),      //nolint:staticcheck // as above
		*syscall.LsfStmt(syscall.BPF_RET, 256),                             //nolint:staticcheck // as above
		*syscall.LsfStmt(syscall.BPF_RET, 0),                               //nolint:staticcheck // as above
	})
	if err == nil {
		err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_TIMESTAMPNS, 1)
	}
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrLinklayer{Protocol: ip, Ifindex: lo.Index})
	}
	if err != nil {
		_ = syscall.Close(fd) // the other error tells more
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	t := &tap{
		file: os.NewFile(uintptr(fd), "tap"), done: make(chan struct{}),
		byID: make(map[tapID]bool), last: make(map[int]*stream),
	}
	if t.raw, err = t.file.SyscallConn(); err != nil {
		_ = t.file.Close() // the other error tells more
		return nil, err
	}
	go func() {
		defer close(t.done)
		_ = t.raw.Read(func(fd uintptr) bool { // ends when the file is closed
			if t.drain(int(fd)) {
				attempted()
			}
			return false
		})
	}()
	return t, nil
}

func (t *tap) close() {
	_ = t.file.Close() // only ever read from
	<-t.done
}

// sends reads what waits in the socket first: a packet of loopback is there as
// soon as its sender's call returns.
func (t *tap) sends() []Send {
	_ = t.raw.Control(func(fd uintptr) { t.drain(int(fd)) }) // fails once closed; then all is read
	t.mu.Lock()
	defer t.mu.Unlock()
	slices.SortFunc(t.seen, func(a, b Send) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Port, b.Port)) })
	return slices.Clone(t.seen)
}

// drain reports whether there was a connection attempt among what it read.
func (t *tap) drain(fd int) (dial bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	buf, oob := make([]byte, 256), make([]byte, 64)
	for {
		n, oobn, _, _, err := syscall.Recvmsg(fd, buf, oob, syscall.MSG_DONTWAIT)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return dial
		}
		if t.packet(buf[:n], stamp(oob[:oobn])) {
			dial = true
		}
	}
}

// stamp is the kernel's time of a packet: a reader that was late to look would
// put it after the outage that it began.
func stamp(oob []byte) time.Time {
	msgs, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return time.Now()
	}
	for _, m := range msgs {
		if m.Header.Type == syscall.SO_TIMESTAMPNS && len(m.Data) >= 16 {
			sec, nsec := binary.NativeEndian.Uint64(m.Data), binary.NativeEndian.Uint64(m.Data[8:])
			return time.Unix(int64(sec), int64(nsec))
		}
	}
	return time.Now()
}

// packet takes an IPv4 packet of TCP and reports whether it is a new
// connection attempt.
func (t *tap) packet(b []byte, at time.Time) bool {
	const tcp, syn, ack = 6, 0x02, 0x10
	if len(b) < 20 || b[9] != tcp || net.IP(b[12:16]).Equal(fillerIP()) {
		return false
	}
	if b = b[4*int(b[0]&0xf):]; len(b) < 20 {
		return false
	}
	port, flags := int(binary.BigEndian.Uint16(b)), b[13]
	id := tapID{port, binary.BigEndian.Uint32(b[4:])}
	if t.byID[id] {
		return false
	}
	if flags&(syn|ack) == syn {
		t.byID[id] = true
		t.last[port] = new(stream)
		t.seen = append(t.seen, Send{At: at, Port: port, Dial: true})
		return true
	}
	data := b[min(len(b), 4*int(b[12]>>4)):]
	if s := t.last[port]; s != nil && beginsRequest(data) {
		t.byID[id] = true
		if s.requests++; s.requests > 1 {
			t.seen = append(t.seen, Send{At: at, Port: port})
		}
	}
	return false
}

func beginsRequest(b []byte) bool {
	method, rest, ok := bytes.Cut(b[:min(len(b), 16)], []byte(" "))
	return ok && bytes.HasPrefix(rest, []byte("/")) &&
		slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}, string(method))
}
