package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/hashicorp/terraform-plugin-sdk/v2/helper/schema"
)

// run does the steps of one operation on one resource.
type run struct {
	cloud     *cloud
	row       *resourceRow
	schema    map[string]*schema.Schema
	d         *schema.ResourceData
	operation string
	// seen are all answers so far, by their members; kept what later steps fill in.
	seen map[string]any
	kept map[string]any
	gone bool
}

func (r *run) steps(ctx context.Context, steps []step) error {
	for i := range steps {
		if r.gone {
			return nil
		}
		if err := r.step(ctx, &steps[i]); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) step(ctx context.Context, s *step) error {
	if !r.holds(s.When) {
		return nil
	}
	if len(s.Unless) > 0 && r.matches(s.Unless) {
		return nil
	}
	if s.Read {
		return r.read(ctx)
	}
	if s.Each == "" {
		return r.perform(ctx, s)
	}
	for _, each := range r.each(s.Each) {
		r.kept["each"] = each
		if err := r.perform(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// read asks for the resource and puts what is answered into the state; without an id when it is gone.
func (r *run) read(ctx context.Context) error {
	if err := r.steps(ctx, r.row.Read); err != nil {
		return err
	}
	if r.gone {
		r.d.SetId("")
		return nil
	}
	return r.take()
}

func (r *run) perform(ctx context.Context, s *step) error {
	if s.Call == "" {
		return r.after(s)
	}
	method, template, _ := strings.Cut(s.Call, " ")
	path, err := r.path(template)
	if err != nil {
		return err
	}
	body, err := r.bodyOf(s)
	if err != nil {
		return err
	}
	if s.Wait != "" {
		err = r.wait(ctx, s, method, path)
	} else {
		err = r.ask(ctx, s, method, path, body)
	}
	if err != nil || r.gone {
		return err
	}
	return r.after(s)
}

func (r *run) bodyOf(s *step) (any, error) {
	switch {
	case s.Send != "":
		return r.body(s.Send)
	case s.Body != nil:
		return r.filled(s.Body)
	}
	return nil, nil
}

// ask makes the call, again while it is refused for a reason that passes.
func (r *run) ask(ctx context.Context, s *step, method, path string, body any) error {
	for looks := 1; ; looks++ {
		got, err := r.cloud.api.call(ctx, method, path, body)
		if err == nil {
			r.note(got)
			if err := present(got.body, s.Must); err != nil {
				return err
			}
			return r.pages(ctx, s, got)
		}
		var refused *refusal
		if !errors.As(err, &refused) {
			return err
		}
		if refused.status == http.StatusNotFound && s.Absent != "" {
			r.gone = s.Absent == "gone"
			return nil
		}
		if !passes(s.Again, refused) {
			return err
		}
		if sleep(ctx, r.cloud.times("again").next(looks)) != nil {
			return err
		}
	}
}

func passes(rules []again, refused *refusal) bool {
	for _, rule := range rules {
		if rule.Status == refused.status && strings.Contains(strings.ToLower(refused.message), strings.ToLower(rule.Text)) {
			return true
		}
	}
	return false
}

// wait looks again and again, with the wait's pauses, until the answer is as wanted or the operation's time is over.
func (r *run) wait(ctx context.Context, s *step, method, path string) error {
	times := r.cloud.times(s.Wait)
	pause := times.first()
	for looks := 1; ; looks++ {
		if err := sleep(ctx, pause); err != nil {
			return fmt.Errorf("%s %s: it did not get ready in time: %w", method, path, err)
		}
		got, err := r.cloud.api.call(ctx, method, path, nil)
		done, err := r.arrived(s, got, err)
		if done || err != nil {
			return err
		}
		pause = times.next(looks)
	}
}

func (r *run) arrived(s *step, got answer, err error) (bool, error) {
	var refused *refusal
	if errors.As(err, &refused) && refused.status == http.StatusNotFound {
		switch {
		case s.UntilAbsent:
			return true, nil
		case s.UntilFound:
			return false, nil
		case s.Absent != "":
			r.gone = s.Absent == "gone"
			return true, nil
		}
	}
	if err != nil {
		return false, err
	}
	r.note(got)
	if s.UntilAbsent {
		return false, nil
	}
	for member, wrong := range s.FailOn {
		if value := at(got.body, member); oneOf(value, wrong) {
			return false, fmt.Errorf("%s is %v", member, value)
		}
	}
	if s.UntilSet != "" && at(got.body, s.UntilSet) == nil {
		return false, nil
	}
	for member, wanted := range s.Until {
		if text, is := wanted.(string); is {
			filled, err := r.fill(text)
			if err != nil {
				return false, err
			}
			wanted = filled
		}
		if !allOf(at(got.body, member), wanted) {
			return false, nil
		}
	}
	return true, nil
}

// after does what a step does with its answer.
func (r *run) after(s *step) error {
	for name, member := range s.Keep {
		name, err := r.fillText(name)
		if err != nil {
			return err
		}
		r.kept[name] = at(r.seen, member)
	}
	if s.ID != "" {
		id, err := r.fillText(s.ID)
		if err != nil {
			return err
		}
		if id == "" {
			return fmt.Errorf("%s: the answer has no id (%s)", s.Call, s.ID)
		}
		r.d.SetId(id)
	}
	if s.GoneWithout != "" && at(r.seen, s.GoneWithout) == nil || len(s.GoneUnless) > 0 && !r.matches(s.GoneUnless) {
		r.gone = true
		return nil
	}
	if s.Take {
		return r.take()
	}
	return nil
}

func (r *run) note(got answer) {
	for member, value := range got.body {
		r.seen[member] = value
	}
}

// A list is read to its end, but no further than this many pages of 200.
const pagesMax = 100

func (r *run) pages(ctx context.Context, s *step, got answer) error {
	if s.Pages == "" {
		return nil
	}
	all, _ := at(got.body, s.Pages).([]any)
	for page := 1; page < pagesMax; page++ {
		next, _ := at(got.body, "links.pages.next").(string)
		if next == "" {
			break
		}
		address, err := url.Parse(next)
		if err != nil {
			return fmt.Errorf("the address of the next page: %w", err)
		}
		if got, err = r.cloud.api.call(ctx, http.MethodGet, address.RequestURI(), nil); err != nil {
			return err
		}
		more, _ := at(got.body, s.Pages).([]any)
		all = append(all, more...)
	}
	r.seen[s.Pages] = all
	return nil
}

// holds answers a step's `when`: "changed:A", "set:A", "added:A", "removed:A", and "on:A" and "off:A" for a switch, of an attribute A.
func (r *run) holds(when string) bool {
	if when == "" {
		return true
	}
	kind, name, _ := strings.Cut(when, ":")
	switch kind {
	case "changed":
		for _, each := range strings.Split(name, ",") {
			if r.d.HasChange(each) {
				return true
			}
		}
		return false
	case "set":
		_, there := r.d.GetOk(name)
		return there
	case "on", "off":
		return r.d.HasChange(name) && r.d.Get(name).(bool) == (kind == "on")
	case "added", "removed":
		return len(r.each(when)) > 0
	}
	panic("table.json: when: " + when)
}

// each lists what a step is repeated for: an attribute's elements, those that came or went, or members of an answer ("answer:…").
func (r *run) each(what string) []any {
	kind, name, marked := strings.Cut(what, ":")
	if !marked {
		return list(r.attribute(what))
	}
	switch kind {
	case "added", "removed":
		old, new := r.d.GetChange(name)
		if kind == "removed" {
			old, new = new, old
		}
		return new.(*schema.Set).Difference(old.(*schema.Set)).List()
	case "answer":
		var found []any
		for _, value := range list(at(r.seen, name)) {
			if value != nil && value != "" {
				found = append(found, value)
			}
		}
		return found
	}
	panic("table.json: each: " + what)
}

// attribute is a value of the plan or state: "A", or "A.B" for B in each block of A, without those that are empty.
func (r *run) attribute(name string) any {
	outer, inner, nested := strings.Cut(name, ".")
	if !nested {
		return r.d.Get(name)
	}
	var found []any
	for _, block := range list(r.d.Get(outer)) {
		if value := block.(map[string]any)[inner]; value != nil && value != "" {
			found = append(found, value)
		}
	}
	return found
}

func (r *run) matches(wanted map[string]string) bool {
	for member, template := range wanted {
		text, err := r.fillText(template)
		if err != nil || fmt.Sprint(at(r.seen, member)) != text {
			return false
		}
	}
	return true
}
