package zone

import "google.golang.org/grpc/experimental/stats"

// picks is recorded through the metrics recorder of the channel. It has no label for the target, which may contain a password.
var picks = stats.RegisterInt64Count(stats.MetricDescriptor{
	Name:        "rollcall.zone.picks",
	Description: "Picks of rollcall_zone, by whether the instance is in the client's own zone.",
	Unit:        "{pick}",
	Labels:      []string{"zone"},
})

// The values of the label, allocated once and not for each pick.
var (
	localLabel = []string{"local"}
	otherLabel = []string{"other"}
)
