package testbed

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

// Ports come from below the range that kernels give to outgoing connections (32768 and up on Linux, 49152 on macOS and
// the BSDs). From within it, a client that dials a server which is down could be given the server's own port as its
// source, and would then be connected to itself, and hold the port that the server wants back.
//
// Each process has blocks of them for itself, which it locks for as long as it lives: a server that is down for the moment
// holds none of its ports, and another process, which runs other tests, is not to take them.
const (
	firstPort  = 12000
	portBlocks = 200
	blockSize  = 100
)

// portsInUse are the ports of all servers of this process, also of those that are down for the moment: a server comes
// back where it was.
var portsInUse struct {
	sync.Mutex
	taken map[int]bool
	mine  []int      // of the blocks that are locked
	locks []*os.File // kept open
}

// reservePorts finds n ports that are free now, for TCP and UDP, and keeps them from other servers until releasePorts. A
// program that is no test may still take one before the server does: whoever starts it tries again then.
func reservePorts(n int) ([]int, error) {
	portsInUse.Lock()
	defer portsInUse.Unlock()
	if portsInUse.taken == nil {
		portsInUse.taken = make(map[int]bool)
	}
	for {
		var ports []int
		for _, i := range rand.Perm(len(portsInUse.mine)) {
			if len(ports) == n {
				break
			}
			if port := portsInUse.mine[i]; !portsInUse.taken[port] && portIsFree(port) {
				ports = append(ports, port)
			}
		}
		if len(ports) == n {
			for _, port := range ports {
				portsInUse.taken[port] = true
			}
			return ports, nil
		}
		if err := lockPorts(); err != nil {
			return nil, fmt.Errorf("found %d free ports of %d: %w", len(ports), n, err)
		}
	}
}

// lockPorts makes another block this process's own. portsInUse is locked.
func lockPorts() error {
	for _, i := range rand.Perm(portBlocks) {
		name := filepath.Join(os.TempDir(), fmt.Sprintf("rollcall-testbed-ports-%d.lock", firstPort+i*blockSize))
		f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o666)
		if err != nil {
			continue // another user's
		}
		if flock(f, syscall.LOCK_EX|syscall.LOCK_NB) != nil {
			_ = f.Close()
			continue // another process's, or this one's
		}
		portsInUse.locks = append(portsInUse.locks, f)
		for k := range blockSize {
			portsInUse.mine = append(portsInUse.mine, firstPort+i*blockSize+k)
		}
		return nil
	}
	return fmt.Errorf("all %d blocks of ports are locked by test processes (rollcall-testbed-ports-*.lock in %s)", portBlocks, os.TempDir())
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
