package agent

import (
	"testing"

	"github.com/rollcall-go/rollcall/registry"
)

// If another datacenter has no leader, another agent would not help.
func TestError_NoLeaderElsewhereIsNotTheAgents(t *testing.T) {
	err := &Error{kind: registry.ErrUnavailable, text: "consul at a: read service s: " + string(ErrNoLeader)}
	if err.isAgents(true) || !err.isAgents(false) {
		t.Errorf("moves from one agent to the next: %v elsewhere, %v here", err.isAgents(true), err.isAgents(false))
	}
}
