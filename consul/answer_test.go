package consul

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/rollcall-go/rollcall/registry"
)

// split returns the elements of a JSON array as the walk over an answer finds them, or an error, as one that is not JSON
// does when it is decoded.
func split(b []byte) ([]json.RawMessage, error) {
	elements := []json.RawMessage{}
	walk := array{b: b}
	more, err := walk.open()
	for more {
		raw, err := walk.take()
		if err != nil {
			return nil, err
		}
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
		got, err := split(b)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%q: the error is %v, of encoding/json %v", b, err, wantErr)
		}
		if err == nil && !slices.EqualFunc(got, want, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
			t.Fatalf("%q: the elements are %q, of encoding/json %q", b, got, want)
		}
	})
}

// entryOf is an entry of an answer with a padding that tells its length apart.
func entryOf(id, version string) string {
	return fmt.Sprintf(`{"Node":{"Address":"10.0.0.1"},"Service":{"ID":%q,"Service":"s","Port":80,"Meta":{"version":%q}},"Checks":[]}`, id, version)
}

func answerOf(entries ...string) []byte { return []byte("[" + strings.Join(entries, ",") + "]") }

// An answer is the same as one that was decoded afresh, whatever the last one was, and what did not change keeps its pointer.
func TestAnswersAfterOneAnother(t *testing.T) {
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
			var a, fresh lastAnswer
			before, err := a.update(answerOf(many...))
			if err != nil {
				t.Fatal(err)
			}
			got, err := a.update(answerOf(c.next...))
			if err != nil {
				t.Fatal(err)
			}
			want, err := fresh.update(answerOf(c.next...))
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
			// And on, with the buffers in use.
			if got, err = a.update(answerOf(many...)); err != nil || len(got) != 300 || got[17].ID != "0017" {
				t.Errorf("the answer after that is of %d instances, %v", len(got), err)
			}
		})
	}
}

func TestABadAnswerLeavesTheLastOne(t *testing.T) {
	var a lastAnswer
	good := answerOf(entryOf("a", "1"), entryOf("b", "1"))
	before, err := a.update(slices.Clone(good))
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "{}", "[1]", "[null]", `[{"Service":{"Service":1}}]`, string(good[:len(good)-1]), string(good) + "]", `[{"Service":{}}]`} {
		if set, err := a.update([]byte(bad)); err == nil {
			t.Errorf("%q is taken for %d instances", bad, len(set))
		}
	}
	after, err := a.update(good)
	if err != nil || !slices.Equal(before, after) {
		t.Errorf("after bad answers the good one is %v, %v", after, err)
	}
}

// What is read of an answer does not depend on the one before: the same instances, or an error both times. Of elements that begin
// alike, the shorter one must not be taken for the longer.
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
	f.Fuzz(func(t *testing.T, before, now []byte) {
		var used, fresh lastAnswer
		_, _ = used.update(slices.Clone(before))
		for range 2 { // and the same again
			got, err := used.update(slices.Clone(now))
			want, wantErr := fresh.update(slices.Clone(now))
			if (err == nil) != (wantErr == nil) {
				t.Fatalf("%q after %q: the error is %v, and %v when it comes first", now, before, err, wantErr)
			}
			if err == nil && !slices.EqualFunc(got, want, func(a, b *registry.Instance) bool { return a.Equal(b) }) {
				t.Fatalf("%q after %q: it is %v, and %v when it comes first", now, before, got, want)
			}
			if err == nil && !json.Valid(now) {
				t.Fatalf("%q after %q is no JSON, and taken for %d instances", now, before, len(got))
			}
		}
	})
}
