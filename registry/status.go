package registry

import "fmt"

// Status tells whether clients should use an instance. Its zero value is Passing. Its text form, in JSON and elsewhere,
// is the lower-case name.
type Status int

const (
	// Passing: the instance takes traffic. Queries select only passing instances unless they say otherwise.
	Passing Status = iota
	// Warning: the instance works, but needs attention.
	Warning
	// Critical: the instance does not work.
	Critical
	// Maintenance: an operator or the instance itself has taken it out of traffic on purpose.
	Maintenance
)

var statusNames = [...]string{"passing", "warning", "critical", "maintenance"}

// String returns the lower-case name, or Status(n) for any other number.
func (s Status) String() string {
	if s < 0 || int(s) >= len(statusNames) {
		return fmt.Sprintf("Status(%d)", int(s))
	}
	return statusNames[s]
}

// MarshalText implements [encoding.TextMarshaler]. It fails for any other number.
func (s Status) MarshalText() ([]byte, error) {
	if s < 0 || int(s) >= len(statusNames) {
		return nil, fmt.Errorf("%w: status: %d is none of passing (0), warning (1), critical (2), maintenance (3)", ErrInvalid, int(s))
	}
	return []byte(statusNames[s]), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler]. It takes the four lower-case names and nothing else.
func (s *Status) UnmarshalText(text []byte) error {
	for i, name := range statusNames {
		if name == string(text) {
			*s = Status(i)
			return nil
		}
	}
	return fmt.Errorf("%w: status: %q is none of passing, warning, critical, maintenance", ErrInvalid, text)
}
