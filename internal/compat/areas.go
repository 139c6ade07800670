package main

import (
	"slices"
	"strings"
)

// An area is a row of a table of the page: a promise of Rollcall, with the tests that prove it on a real server.
type area struct {
	title string
	tests []string // none: all tests of the packages of the plan
}

// A plan has areas whose tests are run together.
type plan struct {
	packages []string
	areas    []area
}

// only returns p with the areas whose title contains text.
func (p plan) only(text string) plan {
	p.areas = slices.DeleteFunc(slices.Clone(p.areas), func(a area) bool { return !strings.Contains(a.title, text) })
	return p
}

// plans are what each program is tested in.
var plans = map[string][]plan{
	consulProgram: {{[]string{"./consul"}, []area{
		{"the conformance suite, on one agent", []string{"TestDriver_Conforms"}},
		{"the conformance suite, on a client agent of three servers, with ACLs and mutual TLS", []string{"TestDriver_ConformsInACluster"}},
		{"servers are killed, tokens deleted, rights taken away", []string{"TestWatch_InACluster"}},
		{"the agent restarts, with and without its data", []string{
			"TestRegister_SurvivesARestartOfTheAgent", "TestRegistration_ReturnsAfterTheAgentLostItsData", "TestWatch_ShowsNoPartOfTheSetAfterARestart",
		}},
		{"the agent, the leader or the application pauses for longer than the TTL", []string{
			"TestWatch_KeepsMostInstancesAfterTheAgentPauses", "TestWatch_KeepsMostInstancesAfterTheLeaderPauses", "TestRegistration_ReturnsAfterALongPause",
		}},
		{"the catalog loses entries, or a snapshot is restored", []string{
			"TestRegistration_ReturnsIfTheCatalogLosesIt", "TestWait_NoticesWhatARestoredSnapshotLacks", "TestWait_NoticesARestoredSnapshotAtOnce",
		}},
		{"one of several agents dies or hangs", []string{"TestRegistration_SwitchesToTheNextAgent"}},
		{"an index that the agent will not reach", []string{"TestWatch_RecoversFromAnIndexThatIsTooHigh"}},
		{"ACLs, and tokens that change", []string{"TestDriver_IsDeniedWithoutAToken", "TestRegistration_MovesToTheNewToken"}},
		{"TLS, and certificates that are replaced", []string{"TestTLS_FollowsRotatedFiles"}},
		{"other datacenters, and failover to them", []string{
			"TestWatch_InAnotherDatacenter", "TestFailover_BetweenDatacenters", "TestFailover_SkipsADeadDatacenter",
		}},
		{"cluster peering", []string{"TestPeer_ReadsExportedInstances"}},
		{"TTL, gRPC, HTTP and TCP checks", []string{"TestChecks_OfAnAgent", "TestChecks_OverTLS"}},
		{"sidecars and Connect-native services", []string{"TestSidecar_IsRegisteredWithTheInstance", "TestRegister_ConnectNative"}},
		{"filter expressions", []string{"TestFilter_OnAnAgent"}},
		{"the agent's limit of connections", []string{
			"TestWatch_SharesConnectionsAmongManyWatches", "TestRegister_SharesConnectionsAmongManyInstances",
		}},
	}}},
	etcdProgram: {{[]string{"./etcd"}, []area{
		{"the conformance suite, on one member", []string{"TestDriver_Conforms"}},
		{"the conformance suite, on three members", []string{"TestConformance_Cluster"}},
		{"the conformance suite, in the format of kratos", []string{"TestConformance_Kratos"}},
		{"the server is killed, restarted, or comes back empty", []string{
			"TestOutage_ServerIsKilledAndRestarted", "TestOutage_StoreIsEmptyAfterRestart", "TestOutage_StoreIsReplacedAtOnce",
		}},
		{"the server or the leader pauses for longer than the TTL", []string{
			"TestOutage_ServerHangsLongerThanTheTTL", "TestWatch_KeepsMostInstancesAfterTheLeaderPauses",
		}},
		{"a member of three is killed, hangs, or is cut off", []string{
			"TestCluster_LeaderIsKilled", "TestCluster_MemberHangs", "TestCluster_MemberIsUnreachable", "TestCluster_MemberIsSeparated",
		}},
		{"the quorum is lost and comes back", []string{"TestCluster_QuorumIsLostAndBack"}},
		{"a deposed leader revokes leases", []string{"TestRegistration_ReturnsAfterADeposedLeaderRevokes"}},
		{"an ID is taken over in an outage", []string{"TestRegistration_ReplacedInAnOutage"}},
		{"a learner is among the endpoints", []string{
			"TestRegister_WithALearnerAmongTheEndpoints", "TestCall_LearnerAmongTheEndpointsFailsNone",
		}},
		{"the store is full (NOSPACE)", []string{"TestLease_NoSpaceKeepsTheOldContent", "TestRelease_NoSpace"}},
		{"users, rights, and tokens that expire", []string{
			"TestDriver_Permissions", "TestCall_FetchesAnotherTokenAfterExpiry", "TestCall_FetchesAnotherTokenAfterUsersChange",
			"TestRegistration_SurvivesRestartsWithAuthentication", "TestRegistration_ReturnsWithThePermission",
		}},
		{"TLS, and certificates that are replaced", []string{"TestTLS_Connects", "TestTLS_FilesRotate"}},
		{"through etcd's gRPC proxy", []string{"TestWatch_ThroughGRPCProxy", "TestRegister_ThroughGRPCProxy"}},
	}}},
	grpcProgram: {
		{[]string{"./grpcx/..."}, []area{{"all tests of grpcx and its policies", nil}}},
		{[]string{"./rollcallotel/..."}, []area{{"all tests of rollcallotel", nil}}},
		{[]string{"./etcd"}, []area{{"the conformance suite on etcd, whose client uses gRPC", []string{"TestDriver_Conforms"}}}},
	},
}

// explanations say why tests of an area fail with a subject, by its name and the title of the area.
var explanations = map[string]map[string]string{
	"etcd-3.4.13": {
		"users, rights, and tokens that expire": "If etcd 3.4 lost its data and with them authentication, it delays each call that has a token from before by 5 s. " +
			"The call ends by its own timeout before, so the client does not learn that the token is invalid and keeps it.",
	},
}
