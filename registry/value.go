package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	// MaxValueSize is the largest value, in bytes: what Consul takes by default.
	MaxValueSize = 512 << 10
	// MaxValueKey is the longest key of a value, in bytes.
	MaxValueKey = 512
)

// Value is what the registry's key-value store has for one key. Values are shared between readers and must not be changed. A nil
// *Value is a confirmed absence: the store has answered that it has no such key.
type Value struct {
	// Key is the key that the value was read or written by.
	Key string
	// Data is what was written. It is not nil, but may be empty.
	Data []byte
	// Revision grows with each change of the value, unless the store has lost its data in between. Consul keeps it if the same data is
	// written again. Use it for [PutOptions.IfRevision] only, since each store counts in its own way.
	Revision uint64
}

// PutOptions are conditions of [Registry.PutValue] and [Registry.DeleteValue]. If a condition is not met, the call fails with
// [ErrConflict] and changes nothing. The zero value has no conditions.
type PutOptions struct {
	// IfRevision is the revision that the value must have. 0 means no condition.
	IfRevision uint64
	// IfAbsent says that there must be no such key. It cannot be combined with IfRevision, or with DeleteValue.
	IfAbsent bool
}

// PutValue writes data as the value of key, and returns the new value. It makes one attempt, which ctx governs. After any other error than
// [ErrInvalid], [ErrDenied], [ErrConflict] and [ErrUnsupported], the value may have been written: read it, or write with a condition.
//
// A key is a path of names with '/' between them, such as rollcall/config/greeter: up to [MaxValueKey] bytes of ASCII letters, digits,
// '.', '_', '-', ':' and '/', without an empty name, "." or "..". The backend's documentation says under which name the store has it.
// data has [MaxValueSize] bytes at most, and is copied.
//
// Errors: [ErrInvalid], [ErrConflict], [ErrDenied], [ErrUnavailable], [ErrUnsupported], [ErrClosed], and the context's.
func (r *Registry) PutValue(ctx context.Context, key string, data []byte, o PutOptions) (*Value, error) {
	var v *Value
	err := reasons{ValidateKey(key), checkValue(data), o.check()}.join()
	if err == nil {
		err = r.writeValue(ctx, opPut, key, func(ctx context.Context, store Properties) (err error) {
			if v, err = store.PutValue(ctx, key, append([]byte{}, data...), o); err != nil {
				return err
			}
			if f := r.valueFeed(key); f != nil { // it may have been started meanwhile
				f.wrote(v.Revision)
			}
			return nil
		})
	}
	if err != nil {
		return nil, &Error{Op: "put value", Key: key, Err: err}
	}
	return v, nil
}

// DeleteValue deletes the value of key. It makes one attempt, which ctx governs, and returns nil if there is no such key, unless o has
// a condition. The rules for keys and the errors are the same as for PutValue.
func (r *Registry) DeleteValue(ctx context.Context, key string, o PutOptions) error {
	err := reasons{ValidateKey(key), o.check()}.join()
	if err == nil && o.IfAbsent {
		err = fmt.Errorf("%w: PutOptions.IfAbsent: cannot be combined with DeleteValue", ErrInvalid)
	}
	if err == nil {
		err = r.writeValue(ctx, opDelete, key, func(ctx context.Context, store Properties) error {
			return store.DeleteValue(ctx, key, o)
		})
	}
	if err != nil {
		return &Error{Op: "delete value", Key: key, Err: err}
	}
	return nil
}

// The operations of the events.
const (
	opPut    = "put_value"
	opDelete = "delete_value"
)

// writeValue makes one attempt to write the value of key.
func (r *Registry) writeValue(ctx context.Context, op, key string, attempt func(context.Context, Properties) error) error {
	opCtx, end, err := r.beginWrite(ctx)
	if err != nil {
		return err
	}
	defer end()
	store := r.driver.Properties()
	if store.PutValue == nil || store.DeleteValue == nil {
		return fmt.Errorf("%w: %s cannot write values", ErrUnsupported, r)
	}
	f, answers := r.valueFeed(key), 0
	if f != nil {
		answers = f.answerCount()
		f.setDeletes(op == opDelete)
	}
	start := time.Now()
	err = attempt(opCtx, store)
	r.attempted(op, start, err)
	if f != nil {
		switch {
		case err == nil && op == opDelete:
			f.hasDeleted(answers)
		case errors.Is(err, ErrConflict) || permanent(err): // nothing was deleted
			f.setDeletes(false)
		case op == opDelete:
			f.mayHaveDeleted()
		}
	}
	switch {
	case err == nil:
		return nil
	case context.Cause(opCtx) == ErrClosed:
		return ErrClosed
	}
	return r.classify(ctx, err)
}

// valueFeed returns the feed of a key, or nil.
func (r *Registry) valueFeed(key string) *valueFeed {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.valueFeeds[key]
}

// attempted emits the event of a call for a value that began at start.
func (r *Registry) attempted(op string, start time.Time, err error) {
	r.emit(pendingEvent{Event: Event{Kind: Attempted, Op: op, Took: time.Since(start), Err: err}})
}

func (o PutOptions) check() error {
	if o.IfAbsent && o.IfRevision != 0 {
		return fmt.Errorf("%w: PutOptions.IfAbsent: cannot be combined with IfRevision %d", ErrInvalid, o.IfRevision)
	}
	return nil
}

func checkValue(data []byte) error {
	if len(data) > MaxValueSize {
		return fmt.Errorf("%w: Data: has %d bytes, more than %d", ErrInvalid, len(data), MaxValueSize)
	}
	return nil
}

// ValidateKey returns an error that wraps [ErrInvalid] if key cannot be the key of a value: see [Registry.PutValue].
func ValidateKey(key string) error {
	switch {
	case key == "":
		return missing("Key")
	case len(key) > MaxValueKey:
		return fmt.Errorf("%w: Key: has %d bytes, more than %d", ErrInvalid, len(key), MaxValueKey)
	}
	for name := range strings.SplitSeq(key, "/") {
		if name == "" || name == "." || name == ".." {
			return invalid("Key", key, fmt.Sprintf("has the part %q", name))
		}
		for _, c := range name {
			if !letterOrDigit(c) && !strings.ContainsRune("._-:", c) {
				return invalid("Key", key, fmt.Sprintf("contains %q, which is no ASCII letter, no digit and none of %q", c, "._-:/"))
			}
		}
	}
	return nil
}

// NoValues returns a source that fails with [ErrUnsupported]. A driver without values returns it from WatchValue.
func NoValues() ValueSource { return noValues{} }

type noValues struct{}

// Next implements [ValueSource].
func (noValues) Next(context.Context) (*Value, error) {
	return nil, fmt.Errorf("%w: this backend has no values", ErrUnsupported)
}

// Close implements [ValueSource].
func (noValues) Close() error { return nil }
