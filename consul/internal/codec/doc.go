// Package codec turns instances into entries of Consul, and entries into instances, which other frameworks may have written.
package codec
