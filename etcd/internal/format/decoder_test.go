package format

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/rollcall-go/rollcall/internal/raced"
	"github.com/rollcall-go/rollcall/registry"
)

// written returns a value as ownFormat writes it.
func written(id, service, address, rest string) string {
	return `{"id":"` + id + `","service":"` + service + `","address":"` + address + `"` + rest + `}`
}

// Each of many values is decoded after others, and the result is the same as without them.
func TestDecoder_DecodesLikeItsFormat(t *testing.T) {
	const plain = `,"version":"1","metadata":{"k":"v"},"weight":1`
	values := []string{
		written("a", "s", "10.0.0.1:80", plain),
		written("a", "s", "10.0.0.2:80", plain),
		written("b", "s", "10.0.0.1:80", plain),
		written("a", "t", "10.0.0.1:80", plain),
		written("a", "s", "10.0.0.1:80", `,"version":"2","metadata":{"k":"v"},"weight":1`),
		written("a", "s", "10.0.0.1:80", ""),
		written("a", "s", "10.0.0.1:80", plain+"}"),
		written("a", "s", "10.0.0.1:80", plain+`,"address":"10.0.0.9:80"`),
		written("a", "s", "10.0.0.1:80", plain+`,"ADDRESS":"10.0.0.9:80"`),
		written("a", "s", "10.0.0.1:80", plain+`,"id":"b"`),
		written("a", "s", "10.0.0.1:80", plain+`,"service":"t"`),
		written("a", "s", `10.0.0.1\u003a80`, plain),
		written("a", "s", `10.0.0.1:80\`, plain),
		written("a", "s", "h\xffst:80", plain),
		written("a", "s", "h\nst:80", plain),
		written("a", "s", "", plain),
		written("a", "s", "10.0.0.1", plain),
		written("", "s", "10.0.0.1:80", plain),
		written(`a\u0062`, "s", "10.0.0.1:80", plain),
		`{"id":"a","service":"s","address":"10.0.0.1:80`,
		`{"id":"a","service":"s","address":`,
		`{"id":"a"`,
		`{ "id":"a","service":"s","address":"10.0.0.1:80"` + plain + "}",
		`{"address":"10.0.0.3:80","id":"a"` + plain + "}",
		`{"address":"10.0.0.3:80"` + plain + "}",
		"", "null", "10.0.0.1:80",
	}
	ids := []string{"a", "b", "", `a\u0062`, "ab"}
	type entry struct{ id, value string }
	befores := [][]entry{nil}
	for _, v := range values {
		befores = append(befores, []entry{{"a", v}})
	}
	for _, rest := range []string{
		plain, "", plain + "}", plain + `,"address":"10.0.0.1:80"`, plain + `,"address":"10.0.0.2:80"`, plain + `,"id":"a"`, plain + `,"id":"b"`,
	} {
		values = append(values, written("a", "s", "10.0.0.1:80", rest), written("b", "s", "10.0.0.9:80", rest))
		for _, other := range []string{"10.0.0.1:80", "10.0.0.2:80"} {
			befores = append(befores, []entry{{"a", written("a", "s", "10.0.0.1:80", rest)}, {"b", written("b", "s", other, rest)}})
		}
	}
	text := func(in *registry.Instance, err error) string {
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%+v", in)
	}
	for name, f := range ByName {
		for _, before := range befores {
			for _, value := range values {
				for _, id := range ids {
					a := new(Decoder)
					for _, e := range before {
						a.Decode(f, "s", e.id, []byte(e.value))
					}
					want := text(f.Decode("s", id, []byte(value)))
					for range 2 {
						if got := text(a.Decode(f, "s", id, []byte(value))); got != want {
							t.Errorf("%s: key %q, %s after %s: %s, want %s", name, id, value, before, got, want)
						}
					}
				}
			}
		}
	}
}

// The template shows in the number of allocations: an instance and its address.
func TestDecoder_CopiesTheTemplate(t *testing.T) {
	a := new(Decoder)
	var ids []string
	var values [][]byte
	for i := range 3 {
		ids = append(ids, fmt.Sprint("i-", i))
		value, err := ownFormat{}.Encode(&registry.Instance{ID: ids[i], Service: "s", Address: fmt.Sprintf("10.0.0.%d:80", i),
			Version: "1", Tags: []string{"x"}, Metadata: map[string]string{"k": "v"}, Weight: 1})
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, value)
	}
	read := func(i int) *registry.Instance {
		in, err := a.Decode(ownFormat{}, "s", ids[i], values[i])
		if err != nil {
			t.Fatal(err)
		}
		return in
	}
	most := 3.0
	if raced.Enabled {
		most = 4 // the race detector keeps more on the heap
	}
	first := read(0)
	for i := 1; i < len(values); i++ {
		var in *registry.Instance
		if n := testing.AllocsPerRun(10, func() { in = read(i) }); n > most {
			t.Errorf("%v allocations", n)
		}
		var want registry.Instance
		if err := json.Unmarshal(values[i], &want); err != nil {
			t.Fatal(err)
		}
		if !in.Equal(&want) || !slices.Equal(first.Tags, in.Tags) {
			t.Errorf("%+v, want %+v", in, want)
		}
	}
}
