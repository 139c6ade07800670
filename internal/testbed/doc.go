// Package testbed starts a real Consul or a real etcd for a test, alone or as a cluster, on free loopback ports. A proxy in
// front of either counts requests and injects faults. All of it ends with the test, or with the test binary if that is killed
// first.
//
//	func TestSomething(t *testing.T) {
//		agent := testbed.StartConsul(t)
//		proxy := testbed.NewProxy(t, agent.Addr())
//		… a client of proxy.Addr() …
//		agent.Kill()
//		agent.Restart(false) // on the same ports, without its data
//	}
//
// A server is ready when it has a leader, answers a read and accepts a write. The methods of a server do what an operator, a
// crash or a reboot would do to it. They report failures with FailNow, so call them from the test's own goroutine. They are
// not safe for concurrent use on one server. Any number of servers may run side by side, in one test binary or in several.
//
// # Which binary runs
//
// The testbed uses the first of these binaries:
//
//   - The file that the environment variable ROLLCALL_CONSUL or ROLLCALL_ETCD names, of any version. This is an explicit choice,
//     such as a run of the tests against another release.
//   - A consul or etcd on PATH, if tools/consul/go.mod or tools/etcd/go.mod pins exactly its version. The library relies on measured
//     behaviour of that version, and the result of a test must not depend on what happens to be installed.
//   - The pinned version, built from its module and kept below os.UserCacheDir()/rollcall. The build takes minutes, once for each
//     machine and version.
//
// No test is skipped: without a binary, the test fails and says why.
//
// # Platforms
//
// Linux, macOS and the BSDs, since the package needs signals and flock. Elsewhere it compiles, and a test that starts a server
// fails. Only on Linux does the kernel end a server whose test binary was killed with SIGKILL. Elsewhere such a server keeps running.
package testbed
