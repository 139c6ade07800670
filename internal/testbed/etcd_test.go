package testbed

import (
	"context"
	"encoding/base64"
	"testing"
)

func (e *Etcd) put(tb testing.TB, value string) {
	tb.Helper()
	pair := map[string][]byte{"key": []byte("k"), "value": []byte(value)}
	if err := e.rpc(tb.Context(), "/v3/kv/put", pair, &struct{}{}); err != nil {
		tb.Fatal(err)
	}
}

func (e *Etcd) get(ctx context.Context) (string, error) {
	var answer struct{ Kvs []struct{ Value string } }
	err := e.rpc(ctx, "/v3/kv/range", map[string][]byte{"key": []byte("k")}, &answer)
	if err != nil || len(answer.Kvs) == 0 {
		return "", err
	}
	value, err := base64.StdEncoding.DecodeString(answer.Kvs[0].Value)
	return string(value), err
}

func TestStartEtcd_IsReadyAtFirstRevision(t *testing.T) {
	t.Parallel()
	e := StartEtcd(t, EtcdOptions{Args: []string{"--log-level=warn"}})
	var answer struct{ Header struct{ Revision string } }
	if err := e.rpc(t.Context(), "/v3/kv/range", map[string][]byte{"key": []byte("k")}, &answer); err != nil {
		t.Fatal(err)
	}
	if answer.Header.Revision != "1" {
		t.Errorf("the store is at revision %s, want 1: the readiness check wrote to it", answer.Header.Revision)
	}
}

// The restore that no client can see: with a wiped server of another identity, it would be told.
func TestEtcd_KeepsIdentityWithoutData(t *testing.T) {
	t.Parallel()
	e := StartEtcd(t)
	type identity struct {
		ClusterID string `json:"cluster_id"`
		MemberID  string `json:"member_id"`
	}
	ask := func() identity {
		var answer struct{ Header identity }
		if err := e.rpc(t.Context(), "/v3/maintenance/status", nil, &answer); err != nil {
			t.Fatal(err)
		}
		return answer.Header
	}
	before := ask()
	e.Restart(false)
	if after := ask(); after != before || before == (identity{}) {
		t.Errorf("etcd was %+v, and is %+v", before, after)
	}
}

func TestEtcd_RestartsWithAuthentication(t *testing.T) {
	t.Parallel()
	e := StartEtcd(t)
	for _, c := range []struct {
		path     string
		question map[string]string
	}{
		{"/v3/auth/user/add", map[string]string{"name": "root", "password": "pw"}},
		{"/v3/auth/role/add", map[string]string{"name": "root"}},
		{"/v3/auth/user/grant", map[string]string{"user": "root", "role": "root"}},
		{"/v3/auth/enable", map[string]string{}},
	} {
		if err := e.rpc(t.Context(), c.path, c.question, &struct{}{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := e.get(t.Context()); err == nil {
		t.Error("authentication is on, and anybody may read")
	}
	e.Login("root", "pw")
	e.put(t, "kept")
	e.Restart(true)
	wantValue(t, e, "kept")
	e.Restart(false) // now it is off
	wantValue(t, e, "")
}
