package httpmap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// lease is one registered entry. The store knows it by its owner.
type lease struct {
	d                  *driver
	service, id, owner string
	releasing          atomic.Bool
}

func (l *lease) TTL() time.Duration { return l.d.config.TTL }

func (l *lease) Renew(ctx context.Context) error {
	return l.call(ctx, http.MethodPost, url.Values{}, nil)
}

func (l *lease) Wait(ctx context.Context) error {
	for since := ""; ; {
		a, err := l.d.read(ctx, l.service, since, since != "")
		if err != nil {
			return err
		}
		switch e := a.Entries[l.id]; {
		case e == nil && l.releasing.Load():
			return nil
		case e == nil:
			return errGone
		case e.Owner != l.owner:
			return registry.ErrReplaced
		}
		since = a.Version
	}
}

func (l *lease) CheckReplaced(ctx context.Context) error {
	a, err := l.d.read(ctx, l.service, "", false)
	if err != nil {
		return err
	}
	if e := a.Entries[l.id]; e != nil && e.Owner != l.owner {
		return registry.ErrReplaced
	}
	return nil
}

func (l *lease) Update(ctx context.Context, in *registry.Instance) error {
	return l.put(ctx, in, url.Values{"update": {"1"}})
}

func (l *lease) Release(ctx context.Context) error {
	l.releasing.Store(true)
	err := l.call(ctx, http.MethodDelete, url.Values{}, nil)
	if errors.Is(err, errGone) || errors.Is(err, registry.ErrReplaced) {
		return nil
	}
	return err
}

func (l *lease) put(ctx context.Context, in *registry.Instance, query url.Values) error {
	value, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("%w: %w", registry.ErrInvalid, err)
	}
	query.Set("ttl", l.d.config.TTL.String())
	return l.call(ctx, http.MethodPut, query, value)
}

func (l *lease) call(ctx context.Context, method string, query url.Values, value []byte) error {
	query.Set("owner", l.owner)
	return l.d.call(ctx, callTimeout, method, "/"+url.PathEscape(l.service)+"/"+url.PathEscape(l.id), query, value, nil)
}
