package choose

// Restriction says why an instance is not used like a passing instance with a weight.
type Restriction uint8

const (
	// None is for instances that pass and have a weight.
	None Restriction = iota
	// Drained instances pass and have no weight. They are used and dialled only if no unrestricted instance serves or can be connected to.
	Drained
	// Spare instances pass, have a weight, and are outside of the client's subset, in which no instance passes. They are used and dialled
	// only if no instance of the subset is connected.
	Spare
	// Failing instances do not pass, and are used because of the panic threshold. Connections to them are kept, but not made again. An
	// instance that was never connected to is dialled only while no other instance can be connected to.
	Failing
	// Withheld instances are not listed, or not as passing, while the registry withholds a suspect set. They are used like Failing
	// instances, but dialled only by a client that has never had a connection.
	Withheld
	// Unlisted instances have left the registry, and are used for EmptyGrace. Connections to them are kept. They are never dialled.
	Unlisted
)

// Link is what a client knows about its connections to an address.
type Link struct {
	Ready      int  // number of connections
	Failed     bool // the last attempt to connect failed, and no connection has succeeded since
	Broke      bool // a connection succeeded and broke, and no connection has succeeded since
	Late       bool // it was dialled while its instance did not pass
	NotServing bool // it is connected, and fails its health check
}

// Overview is what the rules for restricted instances need to know about all instances of a client.
type Overview struct {
	HadConnection bool // the client has had a connection
	serves        bool // an unrestricted instance is connected, and does not fail its health check
	mayServe      bool // an unrestricted instance serves, or is not connected yet and has not failed
	ready         bool // an unrestricted, drained or spare instance is connected
	mayConnect    bool // an unrestricted, drained or spare instance is connected, or has not failed yet
	failingKept   bool // an instance that does not pass is connected, and was dialled while it passed
	failingLate   bool // an instance that does not pass is connected, and was dialled late
}

// Add adds an instance to o.
func (o *Overview) Add(restriction Restriction, a Link) {
	switch {
	case restriction <= Spare:
		connected, notFailed := a.Ready > 0, a.Ready == 0 && !a.Failed
		o.ready = o.ready || connected
		o.mayConnect = o.mayConnect || connected || notFailed
		if restriction == None {
			serves := connected && !a.NotServing
			o.serves = o.serves || serves
			o.mayServe = o.mayServe || serves || notFailed
		}
	case a.Ready > 0 && a.Late:
		o.failingLate = true
	case a.Ready > 0:
		o.failingKept = true
	}
}

// Allows reports whether the client may use an instance: its connections, or if it has none, by dialling it.
func (o *Overview) Allows(restriction Restriction, a Link) bool {
	switch {
	case restriction == None:
		return true
	case restriction == Spare && o.failingKept:
		return false
	case restriction <= Spare && a.Ready > 0:
		return !o.serves
	case restriction <= Spare:
		return !o.mayServe
	case restriction == Unlisted:
		return a.Ready > 0
	case a.Ready > 0 && !a.Late:
		return true
	case a.Ready > 0:
		return !o.ready && !o.failingKept
	case o.mayConnect || o.failingKept || a.Broke:
		return false
	case a.Failed:
		return !o.failingLate
	default:
		return restriction == Failing || !o.HadConnection || a.Late
	}
}

// String returns a word for r, or "" for None.
func (r Restriction) String() string {
	return [...]string{"", "drained", "spare", "failing", "withheld", "unlisted"}[r]
}
