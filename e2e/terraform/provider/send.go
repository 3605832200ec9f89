package main

import (
	"encoding/json"
	"fmt"
	"path"
	"reflect"
	"strconv"
	"strings"

	"github.com/hashicorp/terraform-plugin-sdk/v2/helper/schema"
)

// body is what a create or an update sends: of each field as the table says.
func (r *run) body(operation string) (map[string]any, error) {
	made := map[string]any{}
	for i := range r.row.Fields {
		f := &r.row.Fields[i]
		if f.sent(operation) == "" {
			continue
		}
		if f.Constant != nil {
			made[f.name()] = f.Constant
			continue
		}
		if f.sent(operation) == "configured" && r.d.GetRawConfig().GetAttr(f.Attribute).IsNull() {
			continue
		}
		value, err := r.encode(f, r.d.Get(f.Attribute))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Attribute, err)
		}
		put(made, f.name(), f.sent(operation), value)
	}
	return made, nil
}

// name is the field's own in a body: the last of its member's names, if no other is given.
func (f *field) name() string {
	if f.Send != "" {
		return f.Send
	}
	return path.Base(strings.ReplaceAll(f.Member, ".", "/"))
}

func put(object map[string]any, name, mode string, value any) {
	switch {
	case !empty(value):
		object[name] = value
	case mode == "null":
		object[name] = nil
	case mode == "always", mode == "configured":
		object[name] = value
	}
}

func empty(value any) bool {
	if value == nil {
		return true
	}
	switch of := reflect.ValueOf(value); of.Kind() {
	case reflect.Slice, reflect.Map:
		return of.Len() == 0
	default:
		return of.IsZero()
	}
}

func (r *run) encode(f *field, value any) (any, error) {
	if f.Block != nil {
		return r.blocks(f, value)
	}
	if set, is := value.(*schema.Set); is {
		value = set.List()
	}
	if f.SendAs != "" {
		return r.sendAs(f.SendAs, value)
	}
	return value, nil
}

// blocks are sent as a list of objects, or the first of them as an object.
func (r *run) blocks(f *field, value any) (any, error) {
	made := []any{}
	for _, each := range list(value) {
		// A block with nothing in it is nil.
		block, _ := each.(map[string]any)
		object, err := r.object(f.Block, block)
		if err != nil {
			return nil, err
		}
		made = append(made, object)
	}
	if f.As != "object" {
		return made, nil
	}
	if len(made) == 0 {
		return nil, nil
	}
	return made[0], nil
}

func (r *run) object(fields []field, block map[string]any) (map[string]any, error) {
	made := map[string]any{}
	for i := range fields {
		f := &fields[i]
		if f.Create == "" {
			continue
		}
		var value any
		var err error
		if f.Group != nil {
			value, err = r.object(f.Group, block)
		} else {
			value, err = r.encode(f, block[f.Attribute])
		}
		if err != nil {
			return nil, err
		}
		put(made, f.name(), f.Create, value)
	}
	return made, nil
}

// sendAs: forms that a body has and the state has not.
func (r *run) sendAs(form string, value any) (any, error) {
	switch form {
	case "number_or_text":
		return numberOrText(value), nil
	case "numbers_or_texts":
		made := []any{}
		for _, each := range list(value) {
			made = append(made, numberOrText(each))
		}
		return made, nil
	case "ids":
		made := []any{}
		for _, each := range list(value) {
			made = append(made, map[string]any{"id": each})
		}
		return made, nil
	case "certificate":
		name, _ := value.(string)
		if name == "" {
			return "", nil
		}
		id, there := r.kept["certificate:"+name]
		if !there || id == nil {
			return nil, fmt.Errorf("there is no certificate of the name %q", name)
		}
		return id, nil
	}
	panic("table.json: send_as: " + form)
}

// numberOrText: ids are texts in the state, and numbers in the API; a slug or a fingerprint is a text in both.
func numberOrText(value any) any {
	text, _ := value.(string)
	if _, err := strconv.ParseInt(text, 10, 64); err == nil {
		return json.Number(text)
	}
	return text
}
