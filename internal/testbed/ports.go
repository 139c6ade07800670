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
)

// Ports are below the range that kernels use for outgoing connections (from 32768 on Linux, from 49152 on macOS and the BSDs). With a
// port within that range, a client that dials a server which is down could get the server's own port as its source. The client
// would then be connected to itself, and would occupy the port that the server needs when it starts again.
//
// Each process locks blocks of ports for itself until it ends: a server that is down occupies none of its ports, and the tests of
// another process must not use them.
const (
	firstPort  = 12000
	portBlocks = 200
	blockSize  = 100
)

// portsInUse has the ports of all servers of this process, also of servers that are down: a server starts again on its own ports.
var portsInUse struct {
	sync.Mutex
	taken map[int]bool
	mine  []int      // of the blocks that are locked
	locks []*os.File // kept open
}

// reservePorts finds n ports that are free now, for TCP and UDP, and reserves them until releasePorts. Another program may still
// open such a port before the server does. The code that starts the server then tries other ports.
func reservePorts(n int) ([]int, error) {
	if errPlatform != nil {
		return nil, errPlatform
	}
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
		if flock(f, false) != nil {
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
