package codec

import (
	"strings"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/registry"
)

// status returns the status of all checks of the service and its node together.
func status(checks []check) registry.Status {
	worst := registry.Passing
	for _, c := range checks {
		switch {
		case c.CheckID == api.NodeMaint || strings.HasPrefix(c.CheckID, api.ServiceMaintPrefix):
			return registry.Maintenance
		case c.Status == api.HealthPassing:
		case c.Status == api.HealthWarning:
			worst = max(worst, registry.Warning)
		default:
			worst = registry.Critical
		}
	}
	return worst
}

// CheckStatus returns the status of the TTL check for s. It passes in maintenance, which has a check of its own.
func CheckStatus(s registry.Status) string {
	switch s {
	case registry.Warning:
		return api.HealthWarning
	case registry.Critical:
		return api.HealthCritical
	}
	return api.HealthPassing
}

// InitialStatus returns the status of a new TTL check for s, before there is maintenance.
func InitialStatus(s registry.Status) string {
	if s == registry.Maintenance {
		return api.HealthCritical
	}
	return CheckStatus(s)
}
