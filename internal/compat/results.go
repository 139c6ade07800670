package main

import (
	"encoding/json"
	"maps"
	"os"
	"runtime"
	"time"
)

// results are what was measured, by the name of the subject.
type results map[string]result

type result struct {
	Date     string             `json:"date"`
	Go       string             `json:"go"`
	Platform string             `json:"platform"`
	Outcomes map[string]outcome `json:"outcomes"` // by the title of the area
}

type outcome struct {
	Status status `json:"status"`
	Tests  int    `json:"tests"` // that passed, with subtests
	Reason string `json:"reason,omitempty"`
}

type status string

const (
	statusPassed      status = "passed"
	statusPassedAlone status = "passed alone" // at the second try, when no other test ran
	statusFailed      status = "failed"
)

func load(file string) (results, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	all := results{}
	return all, json.Unmarshal(text, &all)
}

// add sets what was measured now. What was measured earlier, in other areas, stays.
func (r results) add(name string, outcomes map[string]outcome) {
	m := r[name]
	m.Date, m.Go, m.Platform = time.Now().UTC().Format(time.DateOnly), runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH
	if m.Outcomes == nil {
		m.Outcomes = map[string]outcome{}
	}
	maps.Copy(m.Outcomes, outcomes)
	r[name] = m
}

func (r results) save(file string) error {
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o666)
}
