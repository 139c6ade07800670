package grpcx

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/rollcall-go/rollcall/internal/oneline"
	"github.com/rollcall-go/rollcall/registry"
)

// Retry tunes which calls a channel of [NewClient] repeats, and how often. Methods that are declared idempotent are always included. A call
// that is repeated may have had its effects already.
type Retry struct {
	// Methods names methods in the form "package.Service/Method". retry=package.Service/Method in the target adds to them. A method with a
	// stream of requests is an error, since its messages would be sent twice. Default: none.
	Methods []string
	// MaxAttempts is how often a call is sent, including the first time. From 2 to 5. Default: 3.
	MaxAttempts int
	// Budget is after how many failures in a row the channel stops to repeat calls. After that, every ten calls that succeed allow one more
	// repetition. Each call that fails with UNAVAILABLE counts, whether it is repeated or not. From 1 to 500. Default: 50.
	Budget int
}

// Defaults of [Retry].
const (
	DefaultMaxAttempts = 3
	DefaultRetryBudget = 50
)

// WithRetry returns an option for [NewClient]. grpc.NewClient ignores it.
func WithRetry(r Retry) grpc.DialOption { return retryOption{retry: r} }

type retryOption struct {
	grpc.EmptyDialOption
	retry Retry
}

// retryIn returns the Retry in opts with its defaults. The last one counts, as with any other option.
func retryIn(opts []grpc.DialOption) (r Retry) {
	for _, o := range opts {
		if o, ok := o.(retryOption); ok {
			r = o.retry
		}
	}
	if r.MaxAttempts == 0 {
		r.MaxAttempts = DefaultMaxAttempts
	}
	if r.Budget == 0 {
		r.Budget = DefaultRetryBudget
	}
	return r
}

// check returns an error that names every field that cannot be used. r must have its defaults.
func (r Retry) check() error {
	var errs []error
	refuse := func(field string, value any, why string) {
		errs = append(errs, fmt.Errorf("%w: Retry.%s: %v %s", registry.ErrInvalid, field, value, why))
	}
	if r.MaxAttempts < 2 || r.MaxAttempts > 5 {
		refuse("MaxAttempts", r.MaxAttempts, "is not from 2 to 5")
	}
	if r.Budget < 1 || r.Budget > 500 {
		refuse("Budget", r.Budget, "is not from 1 to 500")
	}
	for _, name := range r.Methods {
		m := methodName(name)
		if m.service == "" || m.method == "" || strings.Contains(m.method, "/") {
			refuse("Methods (retry)", fmt.Sprintf("%q", name), "does not have the form package.Service/Method")
			continue
		}
		if d := m.descriptor(); d != nil && d.IsStreamingClient() {
			refuse("Methods (retry)", fmt.Sprintf("%q", name), "has a stream of requests, which would be sent twice")
		}
	}
	return oneline.Join(errs...)
}

// all returns the methods to retry: the methods of r, and all methods that are declared idempotent.
func (r Retry) all() []method {
	all := slices.Clone(idempotent())
	for _, name := range r.Methods {
		if m := methodName(name); !slices.Contains(all, m) {
			all = append(all, m)
		}
	}
	return all
}

// method is the name of a method in the form of a service config.
type method struct{ service, method string }

func methodName(text string) method {
	service, name, _ := strings.Cut(strings.TrimPrefix(text, "/"), "/")
	return method{service, name}
}

// path returns the full name of the method in gRPC.
func (m method) path() string { return "/" + m.service + "/" + m.method }

// descriptor returns nil if no generated code in this binary describes the method.
func (m method) descriptor() protoreflect.MethodDescriptor {
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(m.service + "." + m.method))
	if err != nil {
		return nil
	}
	described, _ := d.(protoreflect.MethodDescriptor)
	return described
}

var declared struct {
	sync.Mutex
	files   int // number of files that were read
	methods []method
}

// idempotent returns the methods whose idempotency_level is NO_SIDE_EFFECTS or IDEMPOTENT and that have no stream of requests, of all
// generated code that is registered by now.
func idempotent() []method {
	declared.Lock()
	defer declared.Unlock()
	if n := protoregistry.GlobalFiles.NumFiles(); n != declared.files {
		declared.files, declared.methods = n, nil
		protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
			for i := range f.Services().Len() {
				declared.methods = append(declared.methods, idempotentOf(f.Services().Get(i))...)
			}
			return true
		})
	}
	return declared.methods
}

func idempotentOf(s protoreflect.ServiceDescriptor) (all []method) {
	for i := range s.Methods().Len() {
		m := s.Methods().Get(i)
		o, ok := m.Options().(*descriptorpb.MethodOptions)
		if ok && o.GetIdempotencyLevel() != descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN && !m.IsStreamingClient() {
			all = append(all, method{string(s.FullName()), string(m.Name())})
		}
	}
	return all
}

// sendOnce has the paths of methods that the caller has named and no generated code describes. If such a method turns out to have a stream
// of requests, gRPC must not send it twice.
type sendOnce map[string]bool

func (r Retry) undescribed() sendOnce {
	o := sendOnce{}
	for _, name := range r.Methods {
		if m := methodName(name); m.descriptor() == nil {
			o[m.path()] = true
		}
	}
	return o
}

func (o sendOnce) stream(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, path string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := open(ctx, d, cc, path, opts...)
	if err == nil && d.ClientStreams && o[path] {
		s.Context() // after this call gRPC does not repeat the stream
	}
	return s, err
}
