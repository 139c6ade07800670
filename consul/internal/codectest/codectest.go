// Package codectest has entries of Consul's answers for the tests of several packages.
package codectest

import (
	"fmt"
	"strings"
)

// Entry returns an entry of the service s that can be used. more goes into its Service.
func Entry(id, more string) string {
	return fmt.Sprintf(`{"Node":{"Address":"10.0.0.1"},"Service":{"ID":%q,"Service":"s","Port":80%s},"Checks":[]}`, id, more)
}

// Unusable are entries that cannot be queried or dialled, each with a word of why.
var Unusable = map[string]string{
	`{"Service":{"ID":"bad","Service":"s","Address":"10.0.0.1","Port":"80"}}`:                    "Service.Port",
	`{"Service":{"ID":"bad","Service":"s","Address":"10.0.0.1","Port":1.5}}`:                     "Service.Port",
	`{"Service":{"ID":"bad","Service":"s","Address":"10.0.0.1","Port":1e400}}`:                   "Service.Port",
	`{"Service":{"ID":"bad","Service":"s","Address":"10.0.0.1","Port":[80]}}`:                    "Service.Port",
	`{"Service":{"ID":"bad","Address":"10.0.0.1","Port":80}}`:                                    "Service.Service is missing",
	`{"Service":{"ID":"bad","Service":null,"Address":"10.0.0.1","Port":80}}`:                     "Service.Service is missing",
	`{"Service":{"Service":"s","Address":"10.0.0.1","Port":80}}`:                                 "Service.ID is missing",
	`{"Service":{"ID":"","Service":"s","Address":"10.0.0.1","Port":80}}`:                         "Service.ID is missing",
	`{"Service":{"ID":7,"Service":"s","Address":"10.0.0.1","Port":80}}`:                          "Service.ID",
	`{"Service":{"ID":"bad","Service":{},"Address":"10.0.0.1","Port":80}}`:                       "Service.Service",
	`{"Service":{"ID":"bad","Service":"s","Address":7,"Port":80}}`:                               "Service.Address",
	`{"Service":{"ID":"bad","Service":"s","Address":"10.0.0.1","Port":80,"Tags":{}}}`:            "Service.Tags",
	`{"Service":{"ID":"bad","Service":"s","Address":"10.0.0.1","Port":80,"Meta":{"a":1}}}`:       "Service.Meta",
	`{"Service":{"ID":"bad","Service":"s","Address":"10.0.0.1","Port":80,"Weights":"heavy"}}`:    "Service.Weights",
	`{"Service":{"ID":"bad","Service":"s","Address":"10.0.0.1","Port":80,"Locality":[]}}`:        "Service.Locality",
	`{"Service":{"ID":"bad","Service":"s","Address":"10.0.0.1","Port":80,"TaggedAddresses":[]}}`: "Service.TaggedAddresses",
	`{"Service":{"ID":"bad","Service":"s","Address":"10.0.0.1","Port":80},"Checks":{}}`:          "Checks",
	`{"Service":{"ID":"bad","Service":"s","Address":"10.0.0.1","Port":80},"Node":[]}`:            "Node",
	`{"Service":["s"]}`: "Service",
	`{"Node":{}}`:       "Service.Service is missing",
	`{}`:                "Service.Service is missing",
	`null`:              "not a JSON object",
	`7`:                 "not a JSON object",
	`"s"`:               "not a JSON object",
	`[{"Service":{}}]`:  "not a JSON object",
	`{"Service":{"ID":"bad","Service":"s","Address":"10.0.0.1"}}`:                                                                                       "no port",
	`{"Service":{"ID":"bad","Service":"s","Address":"10.0.0.1","Port":99999}}`:                                                                          "no port",
	`{"Service":{"ID":"bad","Service":"s","Address":"10.0.0.1","Port":-5}}`:                                                                             "no port",
	`{"Service":{"ID":"bad","Service":"s","Address":"","Port":80}}`:                                                                                     "address",
	`{"Service":{"ID":"bad","Service":"s","Address":"http://10.0.0.9","Port":80}}`:                                                                      "address",
	`{"Service":{"ID":"bad","Service":"s","Address":"10.0.0.9:9000","Port":80}}`:                                                                        "address",
	`{"Service":{"ID":"bad","Service":"s","Address":"[10.0.0.9]:9000","Port":80}}`:                                                                      "address",
	`{"Service":{"ID":"bad","Service":"s","Address":"10.0.0.9 ","Port":80}}`:                                                                            "address",
	`{"Service":{"ID":"bad","Service":"s","Address":"a host","Port":80}}`:                                                                               "address",
	`{"Service":{"ID":"bad","Service":"s","Address":"fe80::1%eth0","Port":80}}`:                                                                         "zone",
	`{"Service":{"ID":"bad","Service":"s","Address":"[[::1]]","Port":80}}`:                                                                              "address",
	`{"Service":{"ID":"bad","Service":"s","Address":"0.0.0.0","Port":80}}`:                                                                              "unspecified",
	`{"Service":{"ID":"bad","Service":"s","Address":"[::]","Port":80}}`:                                                                                 "unspecified",
	`{"Service":{"ID":"bad","Service":"s","Address":"/run/s.sock","Port":80}}`:                                                                          "address",
	`{"Service":{"ID":"bad","Service":"s","SocketPath":"/run/s.sock"},"Node":{"Address":"10.0.0.1"}}`:                                                   "no port",
	`{"Service":{"ID":"bad","Service":"s","Address":"not a host\u001b[2J","Port":80}}`:                                                                  "address",
	`{"Service":{"ID":"bad\u001b[2J","Service":"s","Address":"10.0.0.1","Port":80}}`:                                                                    "cannot be printed",
	`{"Service":{"ID":"bad\u202e","Service":"s","Address":"10.0.0.1","Port":80}}`:                                                                       "cannot be printed",
	`{"Service":{"ID":"bad","Service":"a b","Address":"10.0.0.1","Port":80}}`:                                                                           "name of a service",
	`{"Service":{"ID":"bad","Service":"s\u001b[2J","Address":"10.0.0.1","Port":80}}`:                                                                    "name of a service",
	`{"Service":{"ID":"~x","Service":"s","Address":"10.0.0.1","Port":80,"Meta":{"rollcall-owner":"c.1.1"}}}`:                                            "Service.ID is missing",
	`{"Service":{"ID":"bad","Service":"s","Address":"10.0.0.1","Port":80,"Meta":{"rollcall-owner":"c.1.1","rollcall-more-0":"{\"address\":\"a b\"}"}}}`: "address",
	`{"Service":{"ID":"` + strings.Repeat("x", 2000) + `","Service":"s","Address":"10.0.0.1","Port":80}}`:                                               "longer than",
}

// RealAnswer is an answer of Consul 1.19.2 with an entry of another tool.
const RealAnswer = `[{"Node":{"ID":"a12d2305-e518-c6d3-cea9-5f8a07173b4e","Node":"vm","Address":"127.0.0.1","Datacenter":"dc1","TaggedAddresses":{"lan":"127.0.0.1",
"lan_ipv4":"127.0.0.1","wan":"127.0.0.1","wan_ipv4":"127.0.0.1"},"Meta":{"consul-network-segment":"","consul-version":"1.19.2"},"CreateIndex":11,"ModifyIndex":16},
"Service":{"ID":"g1","Service":"Greeter","Tags":["version=1"],"Address":"","Meta":{"zone":"z"},"Port":80,"TaggedAddresses":{"grpc":{"Address":"grpc://10.0.0.7:9000?isSecure=false","Port":9000}},
"Weights":{"Passing":1,"Warning":1},"EnableTagOverride":false,"Proxy":{"Mode":"","MeshGateway":{},"Expose":{}},"Connect":{},"Locality":{"Region":"eu","Zone":"eu-1"},"PeerName":"","CreateIndex":18,"ModifyIndex":18},
"Checks":[{"Node":"vm","CheckID":"serfHealth","Name":"Serf Health Status","Status":"passing","Notes":"","Output":"Agent alive and reachable","ServiceID":"","ServiceName":"","ServiceTags":[],
"Type":"","Interval":"","Timeout":"","ExposedPort":0,"Definition":{},"CreateIndex":11,"ModifyIndex":11}]}]`
