// Package testbed starts a real Consul or a real etcd for a test, alone or as a cluster, on free loopback ports, and a
// proxy in front of either to count requests and to inject faults. What it starts ends with the test, and also with the
// test binary should that die first.
//
//	func TestSomething(t *testing.T) {
//		agent := testbed.StartConsul(t)
//		proxy := testbed.NewProxy(t, agent.Addr())
//		… a client of proxy.Addr() …
//		agent.Kill()
//		agent.Restart(false) // on the same ports, with nothing left in it
//	}
//
// A server is ready when it has a leader, answers a read and takes a write. From there on the methods of a server do what
// an operator, a crash or a reboot would do to it. They report trouble with FailNow, so call them from the test's own
// goroutine, and they are not meant for concurrent use on one server. Any number of servers may run side by side, in one
// test binary or in several.
//
// # Which binary runs
//
// The environment variables ROLLCALL_CONSUL and ROLLCALL_ETCD name one, of any version: that is an explicit choice, such
// as a run of the suite against another release. Otherwise a consul or etcd found on PATH is used only where its version
// is exactly the one that tools/consul/go.mod or tools/etcd/go.mod pins: the library leans on measured behaviour of that
// version, and what a test says must not depend on what somebody once installed. Otherwise the pinned version is built
// from its module, which takes minutes once a machine and a version, and is kept below os.UserCacheDir()/rollcall. Nothing
// is ever skipped: where no binary can be had, the test fails and says why.
//
// # Platforms
//
// Linux, macOS and the BSDs. The package needs signals and flock, and does not compile elsewhere. Only on Linux does the
// kernel end a server whose test binary was killed with SIGKILL; elsewhere such a server stays behind.
package testbed
