package policytest

import (
	"errors"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
)

// SubConn is a fake connection.
type SubConn struct {
	balancer.SubConn // nil

	channel  *Channel
	address  string
	listener func(balancer.SubConnState)

	up     bool // with Channel.mu
	shut   bool // this and the following fields are used only in calls that the channel makes one at a time
	hangs  bool
	failed bool
	health func(balancer.SubConnState)
}

// Connect implements [balancer.SubConn].
func (sc *SubConn) Connect() { sc.channel.enqueue(sc.connect) }

func (sc *SubConn) connect() {
	if sc.shut {
		return
	}
	sc.listener(balancer.SubConnState{ConnectivityState: connectivity.Connecting})
	sc.hangs = true
	sc.finish()
}

// finish ends an attempt to connect, unless it hangs.
func (sc *SubConn) finish() {
	sc.channel.mu.Lock()
	down, hang := sc.channel.down[sc.address], sc.channel.hang[sc.address]
	if hang {
		sc.channel.mu.Unlock()
		return
	}
	sc.up = !down
	sc.channel.mu.Unlock()
	sc.hangs, sc.failed = false, down
	if down {
		sc.listener(balancer.SubConnState{ConnectivityState: connectivity.TransientFailure, ConnectionError: ErrDown})
		return
	}
	sc.listener(balancer.SubConnState{ConnectivityState: connectivity.Ready})
}

func (sc *SubConn) lose() {
	sc.channel.mu.Lock()
	was := sc.up
	sc.up = false
	sc.channel.mu.Unlock()
	sc.health = nil
	switch {
	case sc.shut:
	case was:
		sc.listener(balancer.SubConnState{ConnectivityState: connectivity.Idle})
	case sc.hangs:
		sc.finish()
	}
}

// retry is the end of the back-off.
func (sc *SubConn) retry() {
	switch {
	case sc.shut:
	case sc.hangs:
		sc.finish()
	case sc.failed:
		sc.failed = false
		sc.listener(balancer.SubConnState{ConnectivityState: connectivity.Idle})
	}
}

// RegisterHealthListener implements [balancer.SubConn].
func (sc *SubConn) RegisterHealthListener(f func(balancer.SubConnState)) {
	sc.channel.enqueue(func() {
		sc.health = f
		sc.tellHealth()
	})
}

func (sc *SubConn) tellHealth() {
	sc.channel.mu.Lock()
	up, sick := sc.up, sc.channel.sick[sc.address]
	sc.channel.mu.Unlock()
	switch {
	case !up || sc.shut || sc.health == nil:
	case sick:
		sc.health(balancer.SubConnState{ConnectivityState: connectivity.TransientFailure, ConnectionError: errors.New("NOT_SERVING")})
	default:
		sc.health(balancer.SubConnState{ConnectivityState: connectivity.Ready})
	}
}

// Shutdown implements [balancer.SubConn].
func (sc *SubConn) Shutdown() {
	sc.channel.mu.Lock()
	sc.up = false
	sc.channel.mu.Unlock()
	sc.channel.enqueue(func() {
		sc.shut = true
		sc.listener(balancer.SubConnState{ConnectivityState: connectivity.Shutdown})
	})
}
