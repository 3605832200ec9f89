package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"time"
)

// The table of paths: for each resource type its calls in order, and which attribute is which member. Its words are explained in
// the README beside it.
//
//go:embed table.json
var tableJSON []byte

type table struct {
	Waits       map[string]waitTimes   `json:"waits"`
	Resources   map[string]resourceRow `json:"resources"`
	DataSources map[string]dataRow     `json:"data_sources"`
}

type resourceRow struct {
	// Object is the answer's member that the fields are read from.
	Object string `json:"object"`
	// Must are members without which the real provider crashes.
	Must   []string `json:"must"`
	Fields []field  `json:"fields"`
	Create []step   `json:"create"`
	Read   []step   `json:"read"`
	Update []step   `json:"update"`
	Delete []step   `json:"delete"`
}

type dataRow struct {
	// By has a way for each attribute that something may be looked up by; "" is the way without any.
	By     map[string]lookup `json:"by"`
	Object string            `json:"object"`
	Fields []field           `json:"fields"`
	ID     string            `json:"id"`
	// Records is the attribute that lists what was found, if filters and order are the provider's own.
	Records string `json:"records"`
}

type lookup struct {
	Steps []step `json:"steps"`
	// List is the answer's list; Pick what the one element has that is meant.
	List string            `json:"list"`
	Pick map[string]string `json:"pick"`
	// Query is what is added to the first call by an attribute's value.
	Query map[string]map[string]string `json:"query"`
}

// step is one call, or one wait, or a read of the whole.
type step struct {
	Call string `json:"call"`
	// Send says which fields make the body; Body is one with places to fill in.
	Send string         `json:"send"`
	Body map[string]any `json:"body"`
	// Each repeats the step, and When and Unless skip it.
	Each   string            `json:"each"`
	When   string            `json:"when"`
	Unless map[string]string `json:"unless"`
	// Keep are names for members of the answer, to fill in later; ID is the new resource's.
	Keep map[string]string `json:"keep"`
	ID   string            `json:"id"`
	// Wait names the times between looks until the answer is as wanted.
	Wait        string         `json:"wait"`
	Until       map[string]any `json:"until"`
	UntilSet    string         `json:"until_set"`
	UntilAbsent bool           `json:"until_absent"`
	UntilFound  bool           `json:"until_found"`
	FailOn      map[string]any `json:"fail_on"`
	// Again are refusals after which it is tried again, by status and part of the message.
	Again []again `json:"again"`
	// Absent says what 404 means: "gone", "fine"; else it is an error. GoneUnless and GoneWithout look at the answer.
	Absent      string            `json:"absent"`
	GoneUnless  map[string]string `json:"gone_unless"`
	GoneWithout string            `json:"gone_without"`
	// Must are members that the answer has to have.
	Must []string `json:"must"`
	// Pages is the answer's list whose further pages belong to it.
	Pages string `json:"pages"`
	// Take sets the state from what was answered so far; Read does all of the resource's own reading.
	Take bool `json:"take"`
	Read bool `json:"read"`
}

type again struct {
	Status int    `json:"status"`
	Text   string `json:"text"`
}

type field struct {
	Attribute string `json:"attribute"`
	// Member is where it stands in an answer: below the row's object, or below the top after a slash. Send is its name in a body.
	Member string `json:"member"`
	Send   string `json:"send"`
	// Create and Update: "" not sent, "always", "set" when not empty, "null" as null when empty, "configured" when written down.
	Create string `json:"create"`
	Update string `json:"update"`
	SendAs string `json:"send_as"`
	ReadAs string `json:"read_as"`
	With   string `json:"with"`
	// Read: "" always, "never", "set" when not empty. If is a member that must be there for it, and Unless one that must be empty;
	// else the state's value stays.
	Read   string `json:"read"`
	If     string `json:"if"`
	Unless string `json:"unless"`
	// Value is a text to fill in, for what is in no answer; Constant is sent and never read.
	Value    string `json:"value"`
	Constant any    `json:"constant"`
	// Block are the fields of a block, As how it is sent: "object" or "list". Group are fields that share an object of a body.
	Block []field `json:"block"`
	As    string  `json:"as"`
	Group []field `json:"group"`
	// DropEmpty: a block without anything in it is as good as none.
	DropEmpty bool `json:"drop_empty"`
}

func (f *field) sent(operation string) string {
	if operation == "update" {
		return f.Update
	}
	return f.Create
}

// waitTimes are seconds: before the first look, between looks, and the longest pause that they grow to.
type waitTimes struct {
	First float64 `json:"first"`
	Every float64 `json:"every"`
	Most  float64 `json:"most"`
}

// Of a fast wait: so many seconds between looks, whatever the real times.
const (
	fastEvery = 0.2
	fastMost  = 1.0
)

func (w waitTimes) fast() waitTimes { return waitTimes{Every: fastEvery, Most: fastMost} }

func (w waitTimes) first() time.Duration { return seconds(w.First) }

// next is the pause after one of so many looks.
func (w waitTimes) next(looks int) time.Duration {
	pause := w.Every
	for ; looks > 1 && pause < w.Most; looks-- {
		pause *= 2
	}
	return seconds(min(pause, max(w.Most, w.Every)))
}

func seconds(number float64) time.Duration { return time.Duration(number * float64(time.Second)) }

func readTable() (*table, error) {
	var made table
	decoder := json.NewDecoder(bytes.NewReader(tableJSON))
	decoder.DisallowUnknownFields()
	decoder.UseNumber()
	if err := decoder.Decode(&made); err != nil {
		return nil, fmt.Errorf("table.json: %w", err)
	}
	return &made, nil
}
