package etcd

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"
)

// tokens holds the token that calls carry to an etcd with authentication. There is one for all calls: etcd spends a tenth
// of a second of computing on each that it gives out.
type tokens struct {
	auth               pb.AuthClient
	username, password string

	turn chan struct{} // holds a token of its own; whoever has taken it may use what follows
	// generation counts the tokens fetched, so that of several calls whose token is refused at once one fetches another.
	generation int
	token      string // "" where etcd has authentication off
}

func newTokens(auth pb.AuthClient, username, password string) *tokens {
	t := &tokens{auth: auth, username: username, password: password, turn: make(chan struct{}, 1)}
	t.turn <- struct{}{}
	return t
}

// get returns a token of a later generation than refused.
func (t *tokens) get(ctx context.Context, refused int) (token string, generation int, err error) {
	if t.username == "" {
		return "", 0, nil
	}
	select {
	case <-t.turn:
	case <-ctx.Done():
		return "", 0, ctx.Err()
	}
	defer func() { t.turn <- struct{}{} }()
	if t.generation <= refused {
		answer, err := t.auth.Authenticate(ctx, &pb.AuthenticateRequest{Name: t.username, Password: t.password})
		switch {
		case err == nil:
			t.token = answer.Token
		case says(err, rpctypes.ErrGRPCAuthNotEnabled):
			t.token = ""
		default:
			return "", 0, err
		}
		t.generation++
	}
	return t.token, t.generation, nil
}

// authorize makes a call with a token, and once more with another where etcd refuses that one because it has run out or
// the users have changed. Such a call was not carried out.
func (t *tokens) authorize(ctx context.Context, call func(context.Context) error) error {
	token, generation, err := t.get(ctx, 0)
	if err != nil {
		return err
	}
	err = call(bearing(ctx, token))
	if t.username == "" || !stale(err) && !says(err, rpctypes.ErrGRPCUserEmpty) {
		return err
	}
	if token, _, err = t.get(ctx, generation); err != nil {
		return err
	}
	return call(bearing(ctx, token))
}

func bearing(ctx context.Context, token string) context.Context {
	if token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, token)
}
