package jsondiff

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/rollcall-go/rollcall/consul/internal/codectest"
	"github.com/rollcall-go/rollcall/registry"
)

// split returns the elements of a JSON array as Answer finds them. It returns an error if an element is not JSON, as decoding it would.
func split(r io.Reader) ([]json.RawMessage, error) {
	elements := []json.RawMessage{}
	walk := newArray(context.Background(), r)
	defer walk.free()
	more, err := walk.open()
	for more {
		e, err := walk.take()
		if err != nil {
			return nil, err
		}
		raw := bytes.Clone(walk.b[e.from:e.to])
		if !json.Valid(raw) {
			return nil, errNotArray
		}
		elements = append(elements, raw)
		if more, err = walk.next(); err != nil {
			return nil, err
		}
	}
	return elements, err
}

// The elements of an answer do not depend on the parts in which it arrives: encoding/json finds the same.
func FuzzSplit(f *testing.F) {
	for _, s := range []string{
		`[]`, ` [ ] `, `[1]`, `[1,"a",null,{"b":[1,2,{}]},[[]]]`, "[\n  {\n \"a\": 1\n },\t{}\r\n]", `[""]`, `["\\"]`, `["\""]`, `["\\\"",{"a":"]"}]`,
		``, `[`, `]`, `[,]`, `[1,]`, `[1 2]`, `[1]]`, `[{]`, `[{"a":1]}`, `{}`, `null`, `["]`, `["\]`, `[tru]`, `[1}]`, `[[1]`, `["é"]`, "[\"\xff\"]", `[-0.1e+5,true]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var want []json.RawMessage
		wantErr := json.Unmarshal(b, &want)
		if wantErr == nil && want == nil {
			return // null, which encoding/json takes for an array
		}
		whole, wholeErr := split(bytes.NewReader(b))
		got, err := split(iotest.OneByteReader(bytes.NewReader(b)))
		if (err == nil) != (wholeErr == nil) || err == nil && !slices.EqualFunc(got, whole, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
			t.Fatalf("%q: byte by byte it is %q, %v, and as a whole %q, %v", b, got, err, whole, wholeErr)
		}
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%q: the error is %v, of encoding/json %v", b, err, wantErr)
		}
		if err == nil && !slices.EqualFunc(got, want, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
			t.Fatalf("%q: the elements are %q, of encoding/json %q", b, got, want)
		}
	})
}

// entryOf is an entry of an answer, with a padding so that its length differs from others.
func entryOf(id, version string) string {
	return fmt.Sprintf(`{"Node":{"Address":"10.0.0.1"},"Service":{"ID":%q,"Service":"s","Port":80,"Meta":{"version":%q}},"Checks":[]}`, id, version)
}

func updated(a *Answer, body []byte) ([]*registry.Instance, error) {
	return a.Update(context.Background(), bytes.NewReader(body))
}

func answerOf(entries ...string) []byte { return []byte("[" + strings.Join(entries, ",") + "]") }

// Decoding an answer gives the same instances after any other answer, and an element that did not change keeps its pointer.
func TestUpdate_KeepsWhatDidNotChange(t *testing.T) {
	entries := func(n int) []string {
		var out []string
		for i := range n {
			out = append(out, entryOf(fmt.Sprintf("%04d", i), "1"))
		}
		return out
	}
	many := entries(300)
	replaced := slices.Clone(many)
	for i := range 100 {
		replaced[100+i] = entryOf(fmt.Sprintf("%04d", 100+i), "two")
	}
	for name, c := range map[string]struct {
		next []string
		kept int // at the least
	}{
		"the same":             {many, 300},
		"one changed":          {append(append(slices.Clone(many[:10]), entryOf("0010", "2")), many[11:]...), 299},
		"a hundred in a row":   {replaced, 200},
		"one added in front":   {append([]string{entryOf("", "1")}, many...), 300},
		"one added at the end": {append(slices.Clone(many), entryOf("9999", "1")), 300},
		"the first removed":    {many[1:], 299},
		"some removed":         {append(slices.Clone(many[:50]), many[100:]...), 250},
		"every other removed": {func() (out []string) {
			for i := 0; i < len(many); i += 2 {
				out = append(out, many[i])
			}
			return out
		}(), 150},
		"all removed": {nil, 0},
		"all others":  {[]string{entryOf("x", "1")}, 0},
		"reversed": {func() []string {
			r := slices.Clone(many)
			slices.Reverse(r)
			return r
		}(), 0},
	} {
		t.Run(name, func(t *testing.T) {
			var a, fresh Answer
			before, err := updated(&a, answerOf(many...))
			if err != nil {
				t.Fatal(err)
			}
			got, err := updated(&a, answerOf(c.next...))
			if err != nil {
				t.Fatal(err)
			}
			want, err := updated(&fresh, answerOf(c.next...))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.EqualFunc(got, want, func(a, b *registry.Instance) bool { return a.Equal(b) }) {
				t.Fatal("it differs from one that was decoded afresh")
			}
			kept := 0
			for _, in := range got {
				if slices.Contains(before, in) {
					kept++
				}
			}
			if kept < c.kept {
				t.Errorf("%d instances kept their pointers, want %d", kept, c.kept)
			}
			// The next answer is decoded with the buffers in use.
			if got, err = updated(&a, answerOf(many...)); err != nil || len(got) != 300 || got[17].ID != "0017" {
				t.Errorf("the answer after that is of %d instances, %v", len(got), err)
			}
		})
	}
}

func TestUpdate_ABadAnswerLeavesTheLastOne(t *testing.T) {
	var a Answer
	good := answerOf(entryOf("a", "1"), entryOf("b", "1"))
	before, err := updated(&a, good)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "{}", "[1]", "[null]", `[{"Service":{},}]`, string(good[:len(good)-1]), string(good) + "]", `[{"Service":{}},]`} {
		if set, err := updated(&a, []byte(bad)); err == nil {
			t.Errorf("%q is decoded as %d instances", bad, len(set))
		}
	}
	after, err := updated(&a, good)
	if err != nil || !slices.Equal(before, after) {
		t.Errorf("after bad answers the good one is %v, %v", after, err)
	}
}

// The result of an answer does not depend on the answer before it: the instances are the same, or both are errors. If an element begins
// like a longer one, it must not be taken for the longer one.
func FuzzAnswerAfterAnother(f *testing.F) {
	a, b := entryOf("a", "1"), entryOf("b", "1")
	short, long := `{"Service":{"Service":"s"}}`, `{"Service":{"Service":"s"}, "Node":{}}`
	for _, s := range [][2]string{
		{string(answerOf(a, b)), string(answerOf(b, a))}, {string(answerOf(a, a, b)), string(answerOf(a, b))}, {string(answerOf(short)), string(answerOf(long))},
		{string(answerOf(long, short)), string(answerOf(short, long))}, {"[" + a + "]", "[" + a + "}]"}, {"[" + a + "]", "[" + a + a + "]"},
		{"[" + a + "]", "[" + a + "x]"}, {"[" + a + "]", "[" + a + " ,\n" + b + "]"}, {"[" + a + "]", "[" + a + ",]"}, {"[" + a + "]", a}, {"[" + a + "]", "[" + a},
		{"[1]", "[12]"}, {"[" + a + "]", "[" + a + ",1]"}, {"[" + a + "]", "[" + a + ",null]"}, {"[" + a + "]", "[" + a + `,{"Service":{"Service":"s"}]`}, {"[]", "[]"}, {"[]", "null"},
		{"[" + a + "]", "[" + a + ",[]]"}, {"[" + a + "]", "[ " + a + " ]"}, {"[" + short + "," + a + "]", "[" + short + short[:len(short)-1] + `,"x":"}"}]`},
	} {
		f.Add([]byte(s[0]), []byte(s[1]))
	}
	for _, bad := range slices.Sorted(maps.Keys(codectest.Unusable)) {
		f.Add(answerOf(a, bad, b), answerOf(bad, b, bad))
	}
	f.Add([]byte(codectest.RealAnswer), answerOf(a))
	f.Fuzz(func(t *testing.T, before, now []byte) {
		var used, fresh Answer
		_, _ = updated(&used, before)
		for range 2 { // and the same again
			got, err := updated(&used, now)
			want, wantErr := fresh.Update(context.Background(), iotest.OneByteReader(bytes.NewReader(now)))
			if (err == nil) != (wantErr == nil) {
				t.Fatalf("%q after %q: the error is %v, and %v when it comes first", now, before, err, wantErr)
			}
			if err == nil && !slices.EqualFunc(got, want, func(a, b *registry.Instance) bool { return a.Equal(b) }) {
				t.Fatalf("%q after %q: it is %v, and %v when it comes first", now, before, got, want)
			}
			if err == nil && fmt.Sprint(used.LeftOut) != fmt.Sprint(fresh.LeftOut) {
				t.Fatalf("%q after %q: it leaves out %v, and %v when it comes first", now, before, used.LeftOut, fresh.LeftOut)
			}
			if err == nil && !json.Valid(now) {
				t.Fatalf("%q after %q is no JSON, and is decoded as %d instances", now, before, len(got))
			}
		}
	})
}
