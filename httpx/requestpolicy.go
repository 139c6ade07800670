package httpx

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall-go/rollcall/internal/choose"
	"github.com/rollcall-go/rollcall/registry"
)

// requestPolicy is what the service config in the registry says about the requests of a service.
type requestPolicy struct {
	timeout     time.Duration // 0 is none
	maxAttempts int           // 0 is Transport.MaxAttempts
}

// policyTimeout is the error of a request that took longer than the service config allows. It is a [context.DeadlineExceeded].
type policyTimeout time.Duration

// Error implements error.
func (d policyTimeout) Error() string {
	return fmt.Sprintf("%v: the service config in the registry allows %v", context.DeadlineExceeded, time.Duration(d))
}

// Timeout reports true, as [context.DeadlineExceeded] does.
func (policyTimeout) Timeout() bool { return true }

// Unwrap returns [context.DeadlineExceeded].
func (policyTimeout) Unwrap() error { return context.DeadlineExceeded }

// parsePolicy reads a service config of gRPC: https://github.com/grpc/grpc/blob/master/doc/service_config.md. It names methods of gRPC, which
// HTTP does not have. So only the entry for all methods matters, and of that only the timeout and retryPolicy.maxAttempts.
func parsePolicy(document []byte) (*requestPolicy, error) {
	var config struct {
		MethodConfig []struct {
			Name        []struct{ Service, Method string }
			Timeout     *string
			RetryPolicy *struct{ MaxAttempts float64 }
		}
	}
	if err := json.Unmarshal(document, &config); err != nil {
		return nil, err
	}
	p, found := &requestPolicy{}, false
	for _, entry := range config.MethodConfig {
		for _, name := range entry.Name {
			switch {
			case name.Service != "" || name.Method != "":
				continue
			case found:
				return nil, errors.New("methodConfig: two entries are for all methods")
			}
			found = true
			if entry.Timeout != nil {
				d, err := parseSeconds(*entry.Timeout)
				if err != nil {
					return nil, err
				}
				p.timeout = d
			}
			if entry.RetryPolicy != nil {
				n := entry.RetryPolicy.MaxAttempts
				if n != float64(int(n)) || n < 2 {
					return nil, fmt.Errorf("methodConfig.retryPolicy.maxAttempts: %v is not a whole number of at least 2", n)
				}
				p.maxAttempts = min(int(n), mostAttempts)
			}
		}
	}
	return p, nil
}

// parseSeconds parses a duration in the form of gRPC, such as 1.5s.
func parseSeconds(text string) (time.Duration, error) {
	seconds, ok := strings.CutSuffix(text, "s")
	_, err := strconv.ParseFloat(seconds, 64)
	if d, bad := time.ParseDuration(text); ok && err == nil && bad == nil && d > 0 {
		return d, nil
	}
	return 0, fmt.Errorf("methodConfig.timeout: %q is not a number of seconds above 0, such as 1.5s", text)
}

// followPolicy applies the service config in the registry, until ctx ends. A value that cannot be used leaves the last good policy in force.
func (s *service) followPolicy(ctx context.Context, w choose.ValueWatcher, key string) {
	log := choose.JoinConfigLog(s.rules.Logger, s.state.Registry, s.query.Service, key)
	defer log.Leave()
	choose.FollowValue(ctx, w, key, func(v *registry.Value, err error) time.Duration {
		switch {
		case v != nil: // beside an error, it is the last good value
			p, bad := parsePolicy(v.Data)
			if bad != nil {
				log.Refused(v, bad)
				return 0
			}
			s.policy.Store(p)
			log.Accepted(v)
		case err == nil || errors.As(err, new(*registry.StaleError)): // the key does not exist
			s.policy.Store(nil)
			log.Accepted(nil)
		}
		return 0
	})
}

// withPolicy returns the request with the timeout of the service config, a function that ends the timeout, and how often the request may be
// sent.
func (s *service) withPolicy(req *http.Request) (limited *http.Request, end context.CancelFunc, maxAttempts int) {
	p := s.policy.Load()
	if p == nil {
		return req, nil, s.core.maxAttempts
	}
	maxAttempts = s.core.maxAttempts
	if p.maxAttempts > 0 {
		maxAttempts = p.maxAttempts
	}
	if p.timeout == 0 {
		return req, nil, maxAttempts
	}
	ctx, end := context.WithTimeoutCause(req.Context(), p.timeout, policyTimeout(p.timeout))
	return req.WithContext(ctx), end, maxAttempts
}
