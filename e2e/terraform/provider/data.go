package main

import (
	"context"
	"fmt"
	"hash/fnv"
	"regexp"
	"slices"
	"sort"
	"strings"

	"github.com/hashicorp/terraform-plugin-sdk/v2/diag"
	"github.com/hashicorp/terraform-plugin-sdk/v2/helper/schema"
)

func newDataSource(name string, facts map[string]typeFacts, calls *table) (*schema.Resource, error) {
	known, there := facts[name]
	if !there {
		return nil, fmt.Errorf("table.json has the data source %s, and behaviour.json has not", name)
	}
	row := calls.DataSources[name]
	made := &schema.Resource{}
	var err error
	if made.Schema, err = attributes("data."+name, known.Attributes); err != nil {
		return nil, err
	}
	made.ReadContext = func(ctx context.Context, d *schema.ResourceData, meta any) diag.Diagnostics {
		r := &run{cloud: meta.(*cloud), row: &resourceRow{Object: row.Object, Fields: row.Fields}, schema: made.Schema, d: d,
			operation: "data", seen: map[string]any{}, kept: map[string]any{}}
		if err := r.look(ctx, name, &row); err != nil {
			return diag.FromErr(err)
		}
		return nil
	}
	return made, nil
}

func (r *run) look(ctx context.Context, name string, row *dataRow) error {
	way, err := r.way(row)
	if err != nil {
		return err
	}
	if err := r.steps(ctx, r.withQuery(way)); err != nil {
		return err
	}
	if r.gone {
		return fmt.Errorf("%s was not found", strings.TrimPrefix(name, "digitalocean_"))
	}
	if row.Records != "" {
		return r.records(row, way)
	}
	if way.List != "" {
		if err := r.pick(name, row, way); err != nil {
			return err
		}
	}
	if err := r.take(); err != nil {
		return err
	}
	id, err := r.fillText(row.ID)
	if err != nil {
		return err
	}
	r.d.SetId(id)
	return nil
}

// way is the lookup by the attribute that is configured.
func (r *run) way(row *dataRow) (*lookup, error) {
	for attribute, way := range row.By {
		if attribute == "" {
			continue
		}
		if _, there := r.d.GetOk(attribute); there {
			return &way, nil
		}
	}
	if way, there := row.By[""]; there {
		return &way, nil
	}
	return nil, fmt.Errorf("nothing says which one is meant")
}

func (r *run) withQuery(way *lookup) []step {
	steps := append([]step{}, way.Steps...)
	for attribute, parts := range way.Query {
		if part := parts[fmt.Sprint(r.d.Get(attribute))]; part != "" {
			steps[0].Call += "&" + part
		}
	}
	return steps
}

// pick leaves the one element of a list that has what is asked for.
func (r *run) pick(name string, row *dataRow, way *lookup) error {
	kind := strings.TrimPrefix(name, "digitalocean_")
	wanted := map[string]string{}
	for member, template := range way.Pick {
		text, err := r.fillText(template)
		if err != nil {
			return err
		}
		wanted[member] = text
	}
	var found []any
	for _, each := range list(at(r.seen, way.List)) {
		if has(each, wanted) {
			found = append(found, each)
		}
	}
	switch len(found) {
	case 1:
		r.seen[row.Object] = found[0]
		return nil
	case 0:
		return fmt.Errorf("no %s found with %v", kind, wanted)
	}
	return fmt.Errorf("too many %ss found with %v: %d", kind, wanted, len(found))
}

func has(object any, wanted map[string]string) bool {
	for member, text := range wanted {
		if fmt.Sprint(at(object, member)) != text {
			return false
		}
	}
	return true
}

// records sets the list of what was found, filtered and ordered as the configuration says.
func (r *run) records(row *dataRow, way *lookup) error {
	nested := r.schema[row.Records].Elem.(*schema.Resource).Schema
	found := []map[string]any{}
	for _, each := range list(at(r.seen, way.List)) {
		object, is := each.(map[string]any)
		if !is {
			return fmt.Errorf("%v is not an object", each)
		}
		r.seen["each"] = object
		record, err := r.record(row.Fields, nested, object)
		if err != nil {
			return err
		}
		wanted, err := r.passesFilters(record)
		if err != nil {
			return err
		}
		if wanted {
			found = append(found, record)
		}
	}
	r.order(found)
	made := make([]any, 0, len(found))
	for _, record := range found {
		made = append(made, record)
	}
	sum := fnv.New64a()
	fmt.Fprint(sum, r.d.Get("filter"), r.d.Get("sort"))
	r.d.SetId(fmt.Sprintf("%s/%d", row.Records, sum.Sum64()))
	return r.d.Set(row.Records, made)
}

func (r *run) record(fields []field, kinds map[string]*schema.Schema, object map[string]any) (map[string]any, error) {
	made, err := r.decodeObject(fields, kinds, object)
	if err != nil {
		return nil, err
	}
	for i := range fields {
		if f := &fields[i]; f.Value != "" {
			if made[f.Attribute], err = r.fillText(f.Value); err != nil {
				return nil, err
			}
		}
	}
	return made, nil
}

func (r *run) passesFilters(record map[string]any) (bool, error) {
	for _, each := range list(r.d.Get("filter")) {
		filter := each.(map[string]any)
		value, there := record[filter["key"].(string)]
		if !there {
			return false, fmt.Errorf("filter: there is no key %q", filter["key"])
		}
		passes, err := passesFilter(filter, value)
		if err != nil || !passes {
			return false, err
		}
	}
	return true, nil
}

// passesFilter: one of the filter's values is met, or all of them; by a list, if one of its elements meets it.
func passesFilter(filter map[string]any, value any) (bool, error) {
	elements, several := value.([]any)
	if !several {
		elements = []any{value}
	}
	all, values := filter["all"].(bool), list(filter["values"])
	for _, wanted := range values {
		met := false
		for _, element := range elements {
			meets, err := meets(filter["match_by"].(string), fmt.Sprint(element), fmt.Sprint(wanted))
			if err != nil {
				return false, err
			}
			met = met || meets
		}
		if met != all {
			return met, nil
		}
	}
	return all, nil
}

func meets(how, text, wanted string) (bool, error) {
	switch how {
	case "substring":
		return strings.Contains(text, wanted), nil
	case "re":
		expression, err := regexp.Compile(wanted)
		return err == nil && expression.MatchString(text), err
	}
	return text == wanted, nil
}

func (r *run) order(found []map[string]any) {
	keys := list(r.d.Get("sort"))
	// Of what is equal, the real provider has the last first when the order is descending.
	if len(keys) > 0 && keys[len(keys)-1].(map[string]any)["direction"] == "desc" {
		slices.Reverse(found)
	}
	sort.SliceStable(found, func(i, j int) bool {
		for _, each := range keys {
			key := each.(map[string]any)
			name, _ := key["key"].(string)
			one, other := found[i][name], found[j][name]
			if fmt.Sprint(one) == fmt.Sprint(other) {
				continue
			}
			return less(one, other) != (key["direction"] == "desc")
		}
		return false
	})
}

func less(one, other any) bool {
	switch value := one.(type) {
	case int:
		return value < other.(int)
	case float64:
		return value < other.(float64)
	}
	return fmt.Sprint(one) < fmt.Sprint(other)
}
