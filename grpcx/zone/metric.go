package zone

import "google.golang.org/grpc/experimental/stats"

// picks goes to what the channel records its metrics with, such as that of google.golang.org/grpc/stats/opentelemetry. It
// has no label for the target, which may hold a password.
var picks = stats.RegisterInt64Count(stats.MetricDescriptor{
	Name:        "rollcall.zone.picks",
	Description: "Picks of rollcall_zone, by whether the instance is in the client's own zone.",
	Unit:        "{pick}",
	Labels:      []string{"zone"},
})

// The values of the label. They are made once, so that no pick does.
var (
	local = []string{"local"}
	other = []string{"other"}
)
