package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-sdk/v2/helper/schema"
)

var place = regexp.MustCompile(`\{[^{}]*\}`)

// fill puts values into a text. One that is a single place becomes the value itself, with its type.
func (r *run) fill(template string) (any, error) {
	if whole := place.FindString(template); whole == template && whole != "" {
		return r.value(strings.Trim(whole, "{}"))
	}
	return r.fillText(template)
}

func (r *run) fillText(template string) (string, error) {
	return r.replaced(template, func(text string) string { return text })
}

// path fills in a path and its query, each value escaped as its place asks for; a colon stays.
func (r *run) path(template string) (string, error) {
	path, query, _ := strings.Cut(template, "?")
	path, err := r.replaced(path, url.PathEscape)
	if err != nil || query == "" {
		return path, err
	}
	query, err = r.replaced(query, url.QueryEscape)
	return path + "?" + query, err
}

func (r *run) replaced(template string, escape func(string) string) (string, error) {
	var failed error
	text := place.ReplaceAllStringFunc(template, func(found string) string {
		value, err := r.value(strings.Trim(found, "{}"))
		if err != nil {
			failed = err
		}
		if value == nil {
			return ""
		}
		return escape(fmt.Sprint(value))
	})
	return text, failed
}

// value of a place: `id`, `id#` (as a number), `unique` (a suffix), what a step kept, `answer:…`, `added:A` and `removed:A`, or an attribute.
func (r *run) value(name string) (any, error) {
	switch {
	case name == "id" && r.operation == "data":
		return r.d.Get("id"), nil
	case name == "id":
		return r.d.Id(), nil
	case name == "id#":
		return json.Number(r.d.Id()), nil
	case name == "unique":
		return r.cloud.unique(), nil
	case strings.HasPrefix(name, "answer:"):
		return at(r.seen, strings.TrimPrefix(name, "answer:")), nil
	case strings.HasPrefix(name, "added:"), strings.HasPrefix(name, "removed:"):
		return r.each(name), nil
	}
	if value, there := r.kept[name]; there {
		return value, nil
	}
	if _, there := r.schema[name]; !there {
		return nil, fmt.Errorf("table.json: there is no value for {%s}", name)
	}
	value := r.d.Get(name)
	if set, is := value.(*schema.Set); is {
		return set.List(), nil
	}
	return value, nil
}

// filled is a body with its places filled in.
func (r *run) filled(template any) (any, error) {
	switch each := template.(type) {
	case string:
		return r.fill(each)
	case map[string]any:
		made := make(map[string]any, len(each))
		for name, value := range each {
			filled, err := r.filled(value)
			if err != nil {
				return nil, err
			}
			made[name] = filled
		}
		return made, nil
	case []any:
		made := make([]any, 0, len(each))
		for _, value := range each {
			filled, err := r.filled(value)
			if err != nil {
				return nil, err
			}
			made = append(made, filled)
		}
		return made, nil
	}
	return template, nil
}

// at is a member deep in an answer: names and numbers with dots between, `*` for that of each element. nil when it is not there.
func at(value any, path string) any {
	if path == "" {
		return value
	}
	name, rest, _ := strings.Cut(path, ".")
	switch each := value.(type) {
	case map[string]any:
		return at(each[name], rest)
	case []any:
		if name == "*" {
			found := make([]any, 0, len(each))
			for _, element := range each {
				found = append(found, at(element, rest))
			}
			return found
		}
		var number int
		if _, err := fmt.Sscanf(name, "%d", &number); err == nil && number >= 0 && number < len(each) {
			return at(each[number], rest)
		}
	}
	return nil
}

// present fails when one of the members is missing; with `*` in its path, when it is missing of any element.
func present(body map[string]any, members []string) error {
	for _, member := range members {
		value := at(body, member)
		missing := value == nil
		if strings.Contains(member, "*") {
			missing = value != nil && slices.Contains(value.([]any), nil)
		}
		if missing {
			return fmt.Errorf("the answer has no `%s`; the real provider crashes without it", member)
		}
	}
	return nil
}

func list(value any) []any {
	switch each := value.(type) {
	case []any:
		return each
	case *schema.Set:
		return each.List()
	}
	return nil
}

// oneOf: whether the value is the wanted one or one of those wanted.
func oneOf(value, wanted any) bool {
	if several, is := wanted.([]any); is {
		for _, each := range several {
			if fmt.Sprint(value) == fmt.Sprint(each) {
				return true
			}
		}
		return false
	}
	return fmt.Sprint(value) == fmt.Sprint(wanted)
}

// allOf: oneOf for each element, where the value is a list.
func allOf(value, wanted any) bool {
	several, is := value.([]any)
	if !is {
		return oneOf(value, wanted)
	}
	for _, each := range several {
		if !oneOf(each, wanted) {
			return false
		}
	}
	return true
}

// uniqueAt is the suffix of a made-up id: a time and a counter, as the plugin SDK makes them.
func uniqueAt(now time.Time, count uint32) string {
	return strings.ReplaceAll(now.UTC().Format("20060102150405.0000"), ".", "") + fmt.Sprintf("%08x", count)
}
