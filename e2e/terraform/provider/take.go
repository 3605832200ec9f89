package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-sdk/v2/helper/schema"
)

// take sets the state's attributes from what was answered.
func (r *run) take() error {
	if err := present(r.seen, r.row.Must); err != nil {
		return err
	}
	for i := range r.row.Fields {
		f := &r.row.Fields[i]
		if f.Read == "never" || f.Attribute == "" {
			continue
		}
		value, found, err := r.decoded(f)
		if err != nil {
			return fmt.Errorf("%s: %w", f.Attribute, err)
		}
		if !found {
			continue
		}
		if err := r.d.Set(f.Attribute, value); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) decoded(f *field) (any, bool, error) {
	if f.Value != "" {
		text, err := r.fillText(f.Value)
		return text, true, err
	}
	member := r.row.Object + "." + f.Member
	if absolute, is := strings.CutPrefix(f.Member, "/"); is {
		member = absolute
	}
	raw := at(r.seen, member)
	if f.If != "" && at(r.seen, f.If) == nil || f.Unless != "" && !zero(at(r.seen, f.Unless)) {
		return nil, false, nil
	}
	value, err := r.decode(f, r.schema[f.Attribute], raw, r.seen)
	return value, f.Read != "set" || !empty(value), err
}

// decode turns a member into what the attribute's type wants; scope is the object that the member stands in.
func (r *run) decode(f *field, kind *schema.Schema, raw any, scope map[string]any) (any, error) {
	if f.ReadAs != "" {
		return r.readAs(f, raw, scope)
	}
	if f.Block != nil {
		return r.decodeBlocks(f, kind, raw)
	}
	return plain(kind, raw)
}

func (r *run) decodeBlocks(f *field, kind *schema.Schema, raw any) (any, error) {
	var objects []any
	switch each := raw.(type) {
	case []any:
		objects = each
	case map[string]any:
		objects = []any{each}
	}
	nested := kind.Elem.(*schema.Resource).Schema
	made := []any{}
	for _, each := range objects {
		object, is := each.(map[string]any)
		if !is {
			return nil, fmt.Errorf("%v is not an object", each)
		}
		block, err := r.decodeObject(f.Block, nested, object)
		if err != nil {
			return nil, err
		}
		if !f.DropEmpty || !allEmpty(block) {
			made = append(made, block)
		}
	}
	return made, nil
}

func allEmpty(block map[string]any) bool {
	for _, value := range block {
		if !empty(value) {
			return false
		}
	}
	return true
}

func (r *run) decodeObject(fields []field, kinds map[string]*schema.Schema, object map[string]any) (map[string]any, error) {
	made := map[string]any{}
	for i := range fields {
		f := &fields[i]
		if f.Group != nil {
			inner, is := object[f.name()].(map[string]any)
			if !is {
				return nil, fmt.Errorf("a rule has no `%s`; the real provider crashes without it", f.name())
			}
			group, err := r.decodeObject(f.Group, kinds, inner)
			if err != nil {
				return nil, err
			}
			for name, value := range group {
				made[name] = value
			}
			continue
		}
		if f.Read == "never" || f.Value != "" {
			continue
		}
		value, err := r.decode(f, kinds[f.Attribute], at(object, f.Member), object)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Attribute, err)
		}
		made[f.Attribute] = value
	}
	return made, nil
}

// plain: a member that is missing or null is the type's zero, as in a Go structure.
func plain(kind *schema.Schema, raw any) (any, error) {
	switch kind.Type {
	case schema.TypeString:
		if raw == nil {
			return "", nil
		}
		return fmt.Sprint(raw), nil
	case schema.TypeBool:
		value, _ := raw.(bool)
		return value, nil
	case schema.TypeInt:
		if raw == nil {
			return 0, nil
		}
		number, err := raw.(json.Number).Int64()
		return int(number), err
	case schema.TypeFloat:
		if raw == nil {
			return 0.0, nil
		}
		return raw.(json.Number).Float64()
	case schema.TypeList, schema.TypeSet:
		elem, is := kind.Elem.(*schema.Schema)
		made := []any{}
		for _, each := range list(raw) {
			if !is {
				return nil, fmt.Errorf("table.json: a block without fields")
			}
			value, err := plain(elem, each)
			if err != nil {
				return nil, err
			}
			made = append(made, value)
		}
		return made, nil
	}
	return nil, fmt.Errorf("a member of the type %v is not known how to read", kind.Type)
}

// zero: a member that is missing, or empty, or the number 0.
func zero(raw any) bool { return empty(raw) || fmt.Sprint(raw) == "0" }

// readAs: forms that the state has and an answer has not.
func (r *run) readAs(f *field, raw any, scope map[string]any) (any, error) {
	text, _ := raw.(string)
	switch f.ReadAs {
	case "go_time":
		if raw == nil {
			return time.Time{}.String(), nil
		}
		when, err := time.Parse(time.RFC3339, text)
		return when.UTC().String(), err
	case "contains":
		return oneOf(f.With, raw), nil
	case "address":
		for _, each := range list(raw) {
			if at(each, "type") == f.With {
				return strings.ToLower(fmt.Sprint(at(each, "ip_address"))), nil
			}
		}
		return "", nil
	case "any_address":
		for _, each := range list(raw) {
			if at(each, "type") == f.With {
				return true, nil
			}
		}
		return false, nil
	case "not":
		value, _ := raw.(bool)
		return !value, nil
	case "slug_or_id":
		if slug, _ := at(raw, "slug").(string); slug != "" {
			return slug, nil
		}
		if id := at(raw, "id"); id != nil {
			return fmt.Sprint(id), nil
		}
		return "0", nil
	case "ports":
		return ports(text, fmt.Sprint(scope["protocol"])), nil
	case "certificate":
		name, _ := r.kept["certificate_name:"+text].(string)
		return name, nil
	case "record_value":
		return r.recordValue(text), nil
	case "record_name":
		return r.recordName(text), nil
	case "ours":
		return r.ours(f, list(raw)), nil
	}
	panic("table.json: read_as: " + f.ReadAs)
}

// ports: all ports are answered as 0, and icmp has none.
func ports(text, protocol string) string {
	switch {
	case protocol == "icmp":
		return ""
	case text == "0":
		return "all"
	}
	return text
}

// recordValue: names are answered without the last dot, and the domain itself as @.
func (r *run) recordValue(text string) string {
	switch at(r.seen, r.row.Object+".type") {
	case "CNAME", "MX", "NS", "SRV", "CAA":
		if text == "@" {
			text = r.d.Get("domain").(string)
		}
		return text + "."
	}
	return text
}

func (r *run) recordName(text string) string {
	domain := r.d.Get("domain").(string)
	switch {
	case text == "@":
		return domain
	case strings.HasSuffix(text, "."):
		return strings.TrimSuffix(text, ".")
	}
	return text + "." + domain
}

// ours are the elements that the state or the plan has, too: what others have added is none of this resource's.
func (r *run) ours(f *field, found []any) []any {
	known := r.d.Get(f.Attribute).(*schema.Set)
	made := []any{}
	for _, each := range found {
		if known.Contains(each) {
			made = append(made, each)
		}
	}
	return made
}
