package conn

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"
)

// tokens has the token for an etcd with authentication. All calls share one, because issuing a token costs etcd a tenth of a second of CPU.
type tokens struct {
	auth               pb.AuthClient
	username, password string

	lock chan struct{} // has one element while it is not locked; guards what follows
	// generation counts the tokens that were fetched, so that several calls whose token is refused at once fetch one new token.
	generation int
	token      string // empty if etcd has authentication off
}

func newTokens(auth pb.AuthClient, username, password string) *tokens {
	t := &tokens{auth: auth, username: username, password: password, lock: make(chan struct{}, 1)}
	t.lock <- struct{}{}
	return t
}

// get returns a token of a later generation than refused.
func (t *tokens) get(ctx context.Context, refused int) (token string, generation int, err error) {
	if t.username == "" {
		return "", 0, nil
	}
	select {
	case <-t.lock:
	case <-ctx.Done():
		return "", 0, ctx.Err()
	}
	defer func() { t.lock <- struct{}{} }()
	if t.generation <= refused {
		answer, err := t.auth.Authenticate(ctx, &pb.AuthenticateRequest{Name: t.username, Password: t.password})
		switch {
		case err == nil:
			t.token = answer.Token
		case Says(err, rpctypes.ErrGRPCAuthNotEnabled):
			t.token = ""
		default:
			return "", 0, err
		}
		t.generation++
	}
	return t.token, t.generation, nil
}

// authorize makes a call with a token. If etcd refuses the token because it has expired or the users have changed, it repeats the call once
// with another token. A refused call was not carried out.
func (t *tokens) authorize(ctx context.Context, call func(context.Context) error) error {
	token, generation, err := t.get(ctx, 0)
	if err != nil {
		return err
	}
	err = call(withToken(ctx, token))
	if t.username == "" || !Stale(err) && !Says(err, rpctypes.ErrGRPCUserEmpty) {
		return err
	}
	if token, _, err = t.get(ctx, generation); err != nil {
		return err
	}
	return call(withToken(ctx, token))
}

func withToken(ctx context.Context, token string) context.Context {
	if token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, token)
}

// TokenOf returns the token of a call that is made with ctx.
func TokenOf(ctx context.Context) string {
	md, _ := metadata.FromOutgoingContext(ctx)
	if tokens := md.Get(rpctypes.TokenFieldNameGRPC); len(tokens) > 0 {
		return tokens[len(tokens)-1]
	}
	return ""
}
