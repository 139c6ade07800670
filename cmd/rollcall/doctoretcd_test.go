package main

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rollcall-go/rollcall/etcd"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
)

// etcdOperator returns etcd's own client for these endpoints.
func etcdOperator(t *testing.T, endpoints ...string) *clientv3.Client {
	t.Helper()
	client, err := (etcd.Config{Endpoints: endpoints}).ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	operator, err := clientv3.New(client)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { operator.Close() })
	return operator
}

func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestDoctor_EtcdMembers(t *testing.T) {
	t.Parallel()
	cluster := testbed.StartEtcdCluster(t)
	url := "etcd://" + strings.Join(cluster.Addrs(), ",")
	d := examine(t, "-r", url)
	for _, check := range []string{"url", "tcp", "members", "learners", "credentials", "alarms", "size", "write"} {
		d.has(t, check, outcomePassed, "", "")
	}
	d.has(t, "members", outcomePassed, "all 3 endpoints answer; etcd 3.", "")
	d.has(t, "write", outcomePassed, "was removed without its knowledge", "")
	d.has(t, "clock", outcomeSkipped, "does not tell its time", "")
	d.exits(t, exitFound)
	examine(t, "--no-write", "-r", "etcd://"+cluster.Addrs()[0]).has(t, "members", outcomePassed, "the cluster has 3 members, the URL names 1", "")

	other := testbed.StartEtcd(t)
	d = examine(t, "--no-write", "-r", url+","+other.Addr())
	d.has(t, "members", outcomeFailed, "belong to two clusters", "etcd.md#endpoints-can-belong")
	d.exits(t, exitUnreachable)

	cluster.Members[0].Stop()
	d = examine(t, "--no-write", "-r", url)
	d.has(t, "members", outcomeWarning, "1 of 3: "+cluster.Addrs()[0]+": it accepts connections, but does not answer within 5s", "The others are used meanwhile")
	d.exits(t, exitFound)
	cluster.Members[0].Continue()

	cluster.Members[0].Kill()
	cluster.Members[1].Kill()
	survivor := "etcd://" + cluster.Addrs()[2]
	watchtest.Eventually(t, "the last member knows no leader", func() bool {
		return examine(t, "--no-write", "-r", survivor).findings["members"].Result == outcomeFailed
	})
	d = examine(t, "--no-write", "-r", survivor)
	d.has(t, "members", outcomeFailed, "knows no leader", "majority")
	d.exits(t, exitUnreachable)
}

func TestDoctor_EtcdThatIsNoEtcd(t *testing.T) {
	t.Parallel()
	agent := strings.TrimPrefix(consulAnswers(t, nil), "consul://")
	d := examine(t, "-r", "etcd://"+agent)
	d.has(t, "members", outcomeFailed, "it does not answer as etcd does", "client address of etcd")
	d.exits(t, exitUnreachable)
}

func TestDoctor_EtcdLearner(t *testing.T) {
	t.Parallel()
	member := testbed.StartEtcd(t)
	learner := testbed.StartEtcdLearner(t, member)
	d := examine(t, "-r", "etcd://"+learner.Addr()+","+member.Addr())
	d.has(t, "learners", outcomeWarning, learner.Addr(), "etcd.md#a-learner-refuses")
	d.has(t, "credentials", outcomePassed, "", "")
	d.has(t, "write", outcomePassed, "", "")
	d.exits(t, exitFound)
}

func TestDoctor_EtcdWithoutSpace(t *testing.T) {
	t.Parallel()
	server := testbed.StartEtcd(t, testbed.EtcdOptions{Args: []string{"--quota-backend-bytes=16777216"}})
	operator := etcdOperator(t, server.Addr())
	url := "etcd://" + server.Addr()
	for key := range 200 {
		_, err := operator.Put(limited(t), "/ballast/"+strings.Repeat("x", key), strings.Repeat("x", 1<<18))
		if err == nil && examine(t, "--no-write", "-r", url).findings["size"].Result == outcomeWarning {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	d := examine(t, "--no-write", "-r", url)
	d.has(t, "size", outcomeWarning, "of 16 MiB at "+server.Addr()+", more than 80 %", "--quota-backend-bytes")
	d.has(t, "alarms", outcomePassed, "none", "")
	for {
		if _, err := operator.Put(limited(t), "/ballast", strings.Repeat("x", 1<<19)); err != nil {
			break // the database space is exceeded
		}
	}
	d = examine(t, "-r", url, "--timeout", "5s")
	d.has(t, "alarms", outcomeFailed, "NOSPACE at member", "alarm disarm")
	d.has(t, "write", outcomeFailed, "was not registered in time", "")
	if d.code == exitFound {
		t.Errorf("exit code %d: %s", d.code, d.stderr)
	}
}

func TestDoctor_EtcdUsers(t *testing.T) {
	t.Parallel()
	const password = "hunter2"
	server := testbed.StartEtcd(t, testbed.EtcdOptions{Args: []string{"--bcrypt-cost=4"}})
	operator := etcdOperator(t, server.Addr())
	url := func(user string) string { return "etcd://" + user + server.Addr() }
	examine(t, "--no-write", "-r", url("")).has(t, "credentials", outcomePassed, "authentication is off: every client", "")
	examine(t, "--no-write", "-r", url("greeter:"+password+"@")).has(t, "credentials", outcomeWarning, "user greeter is not checked", "Leave user and password out")

	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	key := etcd.Config{}.Key
	for user, prefix := range map[string]string{"root": "", "greeter": key("greeter", ""), "all": etcd.DefaultPrefix, "reader": etcd.DefaultPrefix} {
		must(operator.RoleAdd(limited(t), user))
		kind := clientv3.PermissionType(clientv3.PermReadWrite)
		if user == "reader" {
			kind = clientv3.PermissionType(clientv3.PermRead)
		}
		if prefix != "" {
			must(operator.RoleGrantPermission(limited(t), user, prefix, clientv3.GetPrefixRangeEnd(prefix), kind))
		}
		must(operator.UserAdd(limited(t), user, password))
		must(operator.UserGrantRole(limited(t), user, user))
	}
	must(operator.AuthEnable(limited(t)))
	server.Login("root", password)

	as := func(user string, args ...string) diagnosis {
		t.Helper()
		d := examine(t, append([]string{"-r", url(user)}, args...)...)
		if strings.Contains(d.stderr, password) {
			t.Errorf("a password is shown: %s", d.stderr)
		}
		for _, f := range d.findings {
			if strings.Contains(f.Fact+f.Hint, password) {
				t.Errorf("a password is shown: %+v", f)
			}
		}
		return d
	}
	d := as("")
	d.has(t, "credentials", outcomeFailed, "etcd asks for a user", "user:password@")
	d.has(t, "members", outcomePassed, "to users only", "")
	d.exits(t, exitUnreachable)
	d = as("all:wrong@")
	d.has(t, "credentials", outcomeFailed, "does not accept user all with this password", "user:password@")
	d.has(t, "write", outcomeSkipped, "because credentials failed", "")
	d.exits(t, exitUnreachable)

	for _, user := range []string{"root", "all"} {
		d = as(user + ":" + password + "@")
		d.has(t, "credentials", outcomePassed, "user "+user+": its roles allow to find and to register services rollcall-doctor-*", "")
		d.has(t, "write", outcomePassed, "", "")
		d.has(t, "url", outcomeWarning, "a secret is in the command line", "")
		d.exits(t, exitFound)
	}
	as("reader:"+password+"@").has(t, "credentials", outcomeFailed, "user reader may not write /rollcall/rollcall-doctor-", "grant-permission ROLE --prefix=true readwrite /rollcall/rollcall-doctor-")
	as("greeter:"+password+"@").has(t, "credentials", outcomeFailed, "may neither read nor write /rollcall/rollcall-doctor-", "--service")
	d = as("greeter:"+password+"@", "--service", "greeter")
	d.has(t, "credentials", outcomePassed, "to find and to register greeter", "")
	d.has(t, "write", outcomeWarning, "denied", "Nothing is wrong with greeter")
	as("greeter:"+password+"@", "--service", "other", "--no-write").has(t, "credentials", outcomeFailed, "may neither read nor write /rollcall/other/", "Grant the user this")
}

// An interrupted write check leaves nothing in etcd.
func TestDoctor_InterruptedWriteLeavesNothingInEtcd(t *testing.T) {
	t.Parallel()
	server := testbed.StartEtcd(t)
	operator := etcdOperator(t, server.Addr())
	seen := make(chan string, 1)
	changes := operator.Watch(t.Context(), etcd.DefaultPrefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-changes // it is created
	go func() {
		answer := <-changes
		seen <- string(answer.Events[0].Kv.Key)
	}()
	d := interrupted(t, "etcd://"+server.Addr(), seen)
	d.exits(t, exitSignal+int(syscall.SIGINT))
	got, err := operator.Get(limited(t), etcd.DefaultPrefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil || got.Count != 0 {
		t.Errorf("etcd has %v, %v", got, err)
	}
}

func TestDoctor_EtcdCorrupt(t *testing.T) {
	t.Parallel()
	server := testbed.StartEtcd(t)
	conf, err := etcd.Config{}.ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	m, err := newMember(server.Addr(), conf)
	if err != nil {
		t.Fatal(err)
	}
	defer m.conn.Close()
	client := pb.NewMaintenanceClient(m.conn)
	state, err := client.Status(limited(t), &pb.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	question := &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, Alarm: pb.AlarmType_CORRUPT, MemberID: state.Header.MemberId}
	if _, err := client.Alarm(limited(t), question); err != nil {
		t.Fatal(err)
	}
	d := examine(t, "--no-write", "-r", "etcd://"+server.Addr())
	d.has(t, "alarms", outcomeFailed, "CORRUPT at member", "Replace the corrupt member")
	d.exits(t, exitNothing)
}

func TestDoctor_EtcdTLS(t *testing.T) {
	t.Parallel()
	server := testbed.StartEtcd(t)
	path := issue(t, t.TempDir(), "etcd", 20*24*time.Hour)
	address := terminateTLS(t, path, server.Addr())
	d := examine(t, "-r", "etcd://"+address+"?ca-file="+path+".pem")
	d.has(t, "tls", outcomePassed, "certificate of etcd, valid for 19 days", "")
	d.has(t, "members", outcomePassed, "", "")
	d.has(t, "clock", outcomeSkipped, "valid by the clock of this host", "")
	d.has(t, "write", outcomePassed, "", "")
	d = examine(t, "--no-write", "-r", "etcd://"+address+"?tls=true")
	d.has(t, "tls", outcomeFailed, "does not trust", "ca-file")
	d.exits(t, exitUnreachable)
	path = issue(t, t.TempDir(), "etcd", 13*24*time.Hour)
	address = terminateTLS(t, path, server.Addr())
	examine(t, "--no-write", "-r", "etcd://"+address+"?ca-file="+path+".pem").has(t, "tls", outcomeWarning, "it expires in 12 days", "in time")
}

// terminateTLS is TLS in front of target, with a certificate and its key.
func terminateTLS(t *testing.T, path, target string) string {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(path+".pem", path+".key")
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	t.Cleanup(func() { l.Close(); running.Wait() })
	running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer client.Close()
				upstream, err := net.Dial("tcp", target)
				if err != nil {
					return
				}
				running.Go(func() {
					_, _ = io.Copy(upstream, client)
					upstream.Close()
				})
				_, _ = io.Copy(client, upstream)
			})
		}
	})
	return l.Addr().String()
}
