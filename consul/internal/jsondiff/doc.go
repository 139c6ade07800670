// Package jsondiff reads answers with the entries of a service, and decodes only what has changed since the answer before.
package jsondiff
