package testbed

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// Ports come from below the range that kernels give to outgoing connections (32768 and up on Linux, 49152 on macOS and
// the BSDs). From within it, a client that dials a server which is down could be given the server's own port as its
// source, and would then be connected to itself, and hold the port that the server wants back.
const firstPort, lastPort = 12000, 31999

// portsInUse are the ports of all servers of this process, also of those that are down for the moment: a server comes
// back where it was.
var portsInUse struct {
	sync.Mutex
	taken map[int]bool
}

// reservePorts finds n ports that are free now, for TCP and UDP, and keeps them from other servers of this process until
// releasePorts. Another process may still take one before the server does: whoever starts it tries again then.
func reservePorts(n int) ([]int, error) {
	portsInUse.Lock()
	defer portsInUse.Unlock()
	if portsInUse.taken == nil {
		portsInUse.taken = make(map[int]bool)
	}
	var ports []int
	for range 1000 {
		if len(ports) == n {
			return ports, nil
		}
		// At random, since test binaries that start together would otherwise all begin at the same port.
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		if !portsInUse.taken[port] && portIsFree(port) {
			portsInUse.taken[port] = true
			ports = append(ports, port)
		}
	}
	for _, port := range ports {
		delete(portsInUse.taken, port)
	}
	return nil, fmt.Errorf("found %d free ports of %d between %d and %d", len(ports), n, firstPort, lastPort)
}

func releasePorts(ports []int) {
	portsInUse.Lock()
	defer portsInUse.Unlock()
	for _, port := range ports {
		delete(portsInUse.taken, port)
	}
}

func portIsFree(port int) bool {
	addr := loopback(port)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	c, err := net.ListenPacket("udp", addr)
	if err != nil {
		_ = l.Close()
		return false
	}
	return errors.Join(l.Close(), c.Close()) == nil
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
