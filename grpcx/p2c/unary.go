package p2c

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// maxMethods bounds the number of remembered methods, since in a proxy their names come from outside.
const maxMethods = 1024

var (
	known  atomic.Pointer[map[string]bool] // whether a method is unary; the map is replaced and never changed
	adding sync.Mutex
)

// unary reports whether a descriptor says that the method, such as "/package.Service/Method", has no stream.
func unary(method string) bool {
	methods := known.Load()
	if methods != nil {
		if u, ok := (*methods)[method]; ok {
			return u
		}
	}
	u := describedAsUnary(method)
	if methods == nil || len(*methods) < maxMethods {
		remember(method, u)
	}
	return u
}

func remember(method string, u bool) {
	adding.Lock()
	defer adding.Unlock()
	methods := map[string]bool{}
	if old := known.Load(); old != nil {
		methods = maps.Clone(*old)
	}
	methods[strings.Clone(method)] = u
	known.Store(&methods)
}

func describedAsUnary(method string) bool {
	service, name, ok := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	if !ok {
		return false
	}
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service + "." + name))
	if err != nil {
		return false
	}
	m, ok := d.(protoreflect.MethodDescriptor)
	return ok && !m.IsStreamingClient() && !m.IsStreamingServer()
}
