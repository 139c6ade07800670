package registrytest_test

import (
	"bytes"
	"context"
	"strings"

	"github.com/rollcall-go/rollcall/registry"
)

// brokenValues reads or writes values wrongly.
var brokenValues = []broken{
	{
		name: "reads failures as absent values",
		driver: func() *faulty {
			return &faulty{nextValue: func(ctx context.Context, right nextValueFunc) (*registry.Value, error) {
				v, err := right(ctx)
				if err != nil && ctx.Err() == nil {
					return nil, nil
				}
				return v, err
			}}
		},
		fails: []string{"values: outage"},
	},
	{
		name: "reads empty values as absent",
		driver: func() *faulty {
			return &faulty{nextValue: func(ctx context.Context, right nextValueFunc) (*registry.Value, error) {
				v, err := right(ctx)
				if v != nil && len(v.Data) == 0 {
					v = nil
				}
				return v, err
			}}
		},
		fails: []string{"values: content"},
	},
	{
		name: "ignores the conditions of writes",
		driver: func() *faulty {
			return &faulty{putValue: func(ctx context.Context, key string, data []byte, _ registry.PutOptions, right putValueFunc) (*registry.Value, error) {
				return right(ctx, key, data, registry.PutOptions{})
			}}
		},
		fails: []string{"values: conditions"},
	},
	{
		name: "takes values for text",
		driver: func() *faulty {
			return &faulty{putValue: func(ctx context.Context, key string, data []byte, o registry.PutOptions, right putValueFunc) (*registry.Value, error) {
				return right(ctx, key, bytes.TrimSpace(data), o)
			}}
		},
		fails: []string{"values: content"},
	},
	{
		name: "takes keys without case",
		driver: func() *faulty {
			return &faulty{putValue: func(ctx context.Context, key string, data []byte, o registry.PutOptions, right putValueFunc) (*registry.Value, error) {
				return right(ctx, strings.ToLower(key), data, o)
			}}
		},
		fails: []string{"values: neighbours"},
	},
}
