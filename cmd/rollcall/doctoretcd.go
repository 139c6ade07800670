package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// member makes calls to one member of etcd, and to no other one.
type member struct {
	address string
	conn    *grpc.ClientConn
	token   string // of the user; "" if there is none

	answers bool               // as checkMembers has seen
	status  *pb.StatusResponse // nil if the member did not tell
}

func newMember(address string, conf clientv3.Config) (*member, error) {
	options := []grpc.DialOption{grpc.WithNoProxy(), grpc.WithTransportCredentials(insecure.NewCredentials())}
	conn, err := grpc.NewClient("passthrough:///"+address, append(options, conf.DialOptions...)...)
	return &member{address: address, conn: conn}, err
}

// within returns a context for one call, with the token.
func (m *member) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if m.token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, m.token)
	}
	return context.WithTimeout(ctx, stepTimeout)
}

// login gets a token for the user, unless authentication is off.
func (m *member) login(ctx context.Context, d *doctor) error {
	c := d.target.etcd
	if c.Username == "" {
		return nil
	}
	ctx, cancel := m.within(ctx)
	defer cancel()
	answer, err := pb.NewAuthClient(m.conn).Authenticate(ctx, &pb.AuthenticateRequest{Name: c.Username, Password: c.Password.Reveal()})
	if err == nil {
		m.token = answer.Token
	}
	return err
}

// says reports whether err is that error of etcd.
func says(err error, what error) bool {
	return err != nil && rpctypes.ErrorDesc(err) == rpctypes.ErrorDesc(what)
}

// rpcReason returns the innermost text of an error of gRPC, which nests them.
func rpcReason(err error) string {
	text := status.Convert(err).Message()
	if i := strings.LastIndex(text, "desc = "); i >= 0 {
		text = strings.Trim(text[i+len("desc = "):], "\"")
	}
	return text
}

// checkMembers asks each endpoint for its status, all at once.
func (d *doctor) checkMembers(ctx context.Context) finding {
	t := d.target
	d.login(ctx)
	all := make([]finding, len(t.members))
	var asking sync.WaitGroup
	for i, m := range t.members {
		asking.Go(func() {
			began := time.Now()
			limited, cancel := m.within(ctx)
			defer cancel()
			answer, err := pb.NewMaintenanceClient(m.conn).Status(limited, &pb.StatusRequest{})
			if err == nil {
				m.status = answer
			}
			all[i] = memberFinding(answer, err, time.Since(began))
			m.answers = all[i].Result == outcomePassed
		})
	}
	asking.Wait()
	f := t.combined(all)
	if f.Result == outcomeFailed {
		return f
	}
	if two := t.clusters(); two != "" {
		return failed(adviseTwo, "the endpoints belong to two clusters: %s", two)
	}
	if f.Result == outcomePassed && len(t.members) > 1 {
		f.Fact = fmt.Sprintf("all %d endpoints answer; %s", len(t.members), t.versions())
	}
	f.Fact += d.unlisted(ctx)
	return f
}

// login logs in at one member for all of them: the members share their tokens.
func (d *doctor) login(ctx context.Context) {
	for _, m := range d.target.members {
		if m.login(ctx, d) == nil {
			for _, other := range d.target.members {
				other.token = m.token
			}
			return
		}
	}
}

func memberFinding(answer *pb.StatusResponse, err error, took time.Duration) finding {
	switch {
	case says(err, rpctypes.ErrGRPCUserEmpty), says(err, rpctypes.ErrGRPCPermissionDenied), status.Code(err) == codes.PermissionDenied, status.Code(err) == codes.Unauthenticated:
		return passed("it answers after %s, and tells its state to users only", brief(took))
	case status.Code(err) == codes.DeadlineExceeded:
		return failed(adviseMemberHung, "it accepts connections, but does not answer within %v", stepTimeout)
	case asksForCertificate(err):
		return failed(adviseClientCert, "the server refuses this client: %s", rpcReason(err))
	case status.Code(err) == codes.Unimplemented, err != nil && strings.Contains(err.Error(), "server preface"):
		return failed(adviseNotEtcd, "it does not answer as etcd does: %s", rpcReason(err))
	case err != nil:
		return failed(adviseMemberDown, "no answer: %s", rpcReason(err))
	case answer.Leader == 0:
		return failed(adviseNoQuorum, "etcd %s answers, and knows no leader: nothing can be registered", answer.Version)
	}
	return passed("etcd %s answers after %s", answer.Version, brief(took))
}

// known returns the members that have told their state.
func (t *checkTarget) known() []*member {
	return slices.DeleteFunc(slices.Clone(t.members), func(m *member) bool { return m.status == nil })
}

// versions returns the versions of the members.
func (t *checkTarget) versions() string {
	var all []string
	for _, m := range t.known() {
		all = append(all, m.status.Version)
	}
	slices.Sort(all)
	if len(all) == 0 {
		return "they tell their state to users only"
	}
	return "etcd " + strings.Join(slices.Compact(all), ", ")
}

// clusters names two members of different clusters, if there are any.
func (t *checkTarget) clusters() string {
	known := t.known()
	for _, m := range known[min(1, len(known)):] {
		if m.status.Header.GetClusterId() != known[0].status.Header.GetClusterId() {
			return known[0].address + ", " + m.address
		}
	}
	return ""
}

// unlisted says whether the cluster has more members than the endpoints name.
func (d *doctor) unlisted(ctx context.Context) string {
	for _, m := range d.target.known() {
		limited, cancel := m.within(ctx)
		answer, err := pb.NewClusterClient(m.conn).MemberList(limited, &pb.MemberListRequest{Linearizable: true})
		cancel()
		if err == nil && len(answer.Members) > len(d.target.members) {
			return fmt.Sprintf("; the cluster has %d members, the URL names %d", len(answer.Members), len(d.target.members))
		}
		if err == nil {
			return ""
		}
	}
	return ""
}

// checkLearners looks for endpoints that are learners.
func (d *doctor) checkLearners(context.Context) finding {
	var learners []string
	known := d.target.known()
	for _, m := range known {
		if m.status.IsLearner {
			learners = append(learners, m.address)
		}
	}
	switch {
	case len(learners) > 0:
		return warned(adviseLearner, "%s: it refuses nearly every call", strings.Join(learners, ", "))
	case len(known) == 0:
		return skipped("unknown: etcd tells it to users only")
	}
	return passed("no endpoint is a learner")
}

// voter returns a member that answers, and that is no learner as far as is known. Without one it is the first.
func (t *checkTarget) voter() *member {
	for _, m := range t.members {
		if m.answers && !m.status.GetIsLearner() {
			return m
		}
	}
	return t.members[0]
}

// checkAlarms asks for alarms of the cluster.
func (d *doctor) checkAlarms(ctx context.Context) finding {
	m := d.target.voter()
	ctx, cancel := m.within(ctx)
	defer cancel()
	answer, err := pb.NewMaintenanceClient(m.conn).Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_GET})
	if err != nil {
		return skipped("unknown: %s", rpcReason(err))
	}
	var raised []string
	a := adviseNoSpace
	for _, alarm := range answer.Alarms {
		raised = append(raised, fmt.Sprintf("%s at member %x", alarm.Alarm, alarm.MemberID))
		if alarm.Alarm == pb.AlarmType_CORRUPT {
			a = adviseCorrupt
		}
	}
	if len(raised) > 0 {
		return failed(a, "%s: etcd refuses writes", strings.Join(raised, ", "))
	}
	return passed("none")
}

// fullShare is the share of the quota from which on the doctor warns.
const fullShare = 0.8

// checkSize compares the size of each database with its quota.
func (d *doctor) checkSize(context.Context) finding {
	var fullest *pb.StatusResponse
	address := ""
	for _, m := range d.target.known() {
		if fullest == nil || share(m.status) > share(fullest) {
			fullest, address = m.status, m.address
		}
	}
	switch {
	case fullest == nil:
		return skipped("unknown: no member tells its state")
	case fullest.DbSizeQuota <= 0:
		return passed("%s at %s; this etcd does not tell its quota", bytesText(fullest.DbSize), address)
	}
	fact := fmt.Sprintf("%s of %s at %s", bytesText(fullest.DbSize), bytesText(fullest.DbSizeQuota), address)
	if share(fullest) > fullShare {
		return warned(adviseQuota, "%s, more than %.0f %%", fact, fullShare*100)
	}
	return passed("%s", fact)
}

func share(s *pb.StatusResponse) float64 {
	if s.DbSizeQuota <= 0 {
		return 0
	}
	return float64(s.DbSize) / float64(s.DbSizeQuota)
}

// bytesText returns n with a unit.
func bytesText(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	units := []string{"KiB", "MiB", "GiB", "TiB"}
	i := min(int(math.Log2(float64(n))/10), len(units))
	return fmt.Sprintf("%.3g %s", float64(n)/math.Pow(1024, float64(i)), units[i-1])
}

// checkEtcdClock cannot compare clocks.
func (d *doctor) checkEtcdClock(context.Context) finding {
	if d.target.tls != nil && !d.target.tls.InsecureSkipVerify {
		return skipped("etcd does not tell its time; its certificate is valid by the clock of this host")
	}
	return skipped("etcd does not tell its time")
}

// removeFromEtcd deletes the key of an entry.
func (d *doctor) removeFromEtcd(ctx context.Context, service, id string) error {
	m := d.target.voter()
	ctx, cancel := m.within(ctx)
	defer cancel()
	_, err := pb.NewKVClient(m.conn).DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte(d.target.etcd.Key(service, id))})
	return err
}
