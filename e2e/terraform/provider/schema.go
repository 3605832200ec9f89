package main

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-sdk/v2/helper/schema"
)

// What was observed of the real provider's schema: attributes, types and their behaviour in a plan. It is read when the program
// starts; there is no schema in Go.
//
//go:embed facts/behaviour.json
var behaviourJSON []byte

type behaviour struct {
	Provider    map[string]attributeFacts `json:"provider"`
	Resources   map[string]typeFacts      `json:"resources"`
	DataSources map[string]typeFacts      `json:"data_sources"`
}

type typeFacts struct {
	Attributes    map[string]attributeFacts `json:"attributes"`
	SchemaVersion int                       `json:"schema_version"`
	Timeouts      map[string]string         `json:"timeouts"`
	Importable    bool                      `json:"importable"`
	Updatable     bool                      `json:"updatable"`
	CustomizeDiff bool                      `json:"customize_diff"`
}

type attributeFacts struct {
	Type          string          `json:"type"`
	Elem          json.RawMessage `json:"elem"`
	Required      bool            `json:"required"`
	Optional      bool            `json:"optional"`
	Computed      bool            `json:"computed"`
	ForceNew      bool            `json:"force_new"`
	Sensitive     bool            `json:"sensitive"`
	Deprecated    bool            `json:"deprecated"`
	StateFunc     bool            `json:"state_func"`
	DiffSuppress  bool            `json:"diff_suppress"`
	CustomSetHash bool            `json:"custom_set_hash"`
	DefaultFunc   bool            `json:"default_func"`
	Validated     bool            `json:"validated"`
	Default       any             `json:"default"`
	MaxItems      int             `json:"max_items"`
	MinItems      int             `json:"min_items"`
	ConflictsWith []string        `json:"conflicts_with"`
	RequiredWith  []string        `json:"required_with"`
	ExactlyOneOf  []string        `json:"exactly_one_of"`
}

var valueTypes = map[string]schema.ValueType{
	"Bool": schema.TypeBool, "Int": schema.TypeInt, "Float": schema.TypeFloat, "String": schema.TypeString,
	"List": schema.TypeList, "Set": schema.TypeSet, "Map": schema.TypeMap,
}

// attributes makes the schema of a type or of a block in it; path is where its behaviours are looked up.
func attributes(path string, facts map[string]attributeFacts) (map[string]*schema.Schema, error) {
	made := make(map[string]*schema.Schema, len(facts))
	for name, each := range facts {
		attribute, err := attribute(path+"."+name, each)
		if err != nil {
			return nil, err
		}
		made[name] = attribute
	}
	return made, nil
}

func attribute(path string, facts attributeFacts) (*schema.Schema, error) {
	kind, known := valueTypes[facts.Type]
	if !known {
		return nil, fmt.Errorf("%s has the unknown type %q", path, facts.Type)
	}
	made := &schema.Schema{
		Type: kind, Required: facts.Required, Optional: facts.Optional, Computed: facts.Computed, ForceNew: facts.ForceNew,
		Sensitive: facts.Sensitive, MaxItems: facts.MaxItems, MinItems: facts.MinItems, Default: facts.Default,
		ConflictsWith: facts.ConflictsWith, RequiredWith: facts.RequiredWith, ExactlyOneOf: facts.ExactlyOneOf,
	}
	if number, is := facts.Default.(float64); is && kind == schema.TypeInt {
		made.Default = int(number)
	}
	if facts.Deprecated {
		made.Deprecated = "deprecated by the real provider, too"
	}
	if err := elements(path, facts, made); err != nil {
		return nil, err
	}
	return made, behave(path, facts, made)
}

// elements sets what a list, set or map holds: values of one type, or blocks.
func elements(path string, facts attributeFacts, made *schema.Schema) error {
	if facts.Elem == nil {
		return nil
	}
	var kind struct {
		Type json.RawMessage `json:"type"`
	}
	if err := json.Unmarshal(facts.Elem, &kind); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	// A block may have an attribute of the name `type`, which then is an object.
	if len(kind.Type) > 0 && kind.Type[0] == '"' {
		var elem attributeFacts
		if err := json.Unmarshal(facts.Elem, &elem); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		value, err := attribute(path+".*", elem)
		made.Elem = value
		return err
	}
	var block map[string]attributeFacts
	if err := json.Unmarshal(facts.Elem, &block); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	nested, err := attributes(path, block)
	made.Elem = &schema.Resource{Schema: nested}
	return err
}

// behave adds the functions that the facts say there are. One that is not known here is an error: a plan would be wrong without it.
func behave(path string, facts attributeFacts, made *schema.Schema) error {
	var known bool
	if facts.StateFunc {
		if made.StateFunc, known = stateFuncs[path]; !known {
			return fmt.Errorf("%s has a StateFunc that the stand-in does not know", path)
		}
	}
	if facts.DiffSuppress {
		if made.DiffSuppressFunc, known = suppressions[path]; !known {
			return fmt.Errorf("%s suppresses differences in a way that the stand-in does not know", path)
		}
	}
	if facts.CustomSetHash {
		if made.Set, known = setHashes[path]; !known {
			made.Set = hashWithoutCase
		}
	}
	if facts.DefaultFunc {
		if made.DefaultFunc, known = providerDefaults[path]; !known {
			return fmt.Errorf("%s has a default that the stand-in does not know", path)
		}
	}
	// What the real one checks is not known in general; that no required text is empty, and no text of a list, is.
	if facts.Validated && (facts.Required || strings.HasSuffix(path, ".*")) && made.Type == schema.TypeString {
		made.ValidateFunc = notEmpty
	}
	return nil
}

// timeouts are the defaults; whoever writes a configuration may set others.
func timeouts(facts map[string]string) (*schema.ResourceTimeout, error) {
	if len(facts) == 0 {
		return nil, nil
	}
	made := &schema.ResourceTimeout{}
	for operation, text := range facts {
		span, err := time.ParseDuration(text)
		if err != nil {
			return nil, err
		}
		switch operation {
		case "create":
			made.Create = &span
		case "read":
			made.Read = &span
		case "update":
			made.Update = &span
		case "delete":
			made.Delete = &span
		default:
			return nil, fmt.Errorf("a timeout for %q", operation)
		}
	}
	return made, nil
}

// providerDefaults are where a setting of the provider comes from when the configuration has none.
var providerDefaults = map[string]schema.SchemaDefaultFunc{
	"provider.api_endpoint":        environment("https://api.digitalocean.com", "DIGITALOCEAN_API_URL"),
	"provider.token":               environment(nil, "DIGITALOCEAN_TOKEN", "DIGITALOCEAN_ACCESS_TOKEN"),
	"provider.http_retry_max":      number(4, "DIGITALOCEAN_HTTP_RETRY_MAX"),
	"provider.http_retry_wait_min": number(1.0, "DIGITALOCEAN_HTTP_RETRY_WAIT_MIN"),
	"provider.http_retry_wait_max": number(30.0, "DIGITALOCEAN_HTTP_RETRY_WAIT_MAX"),
	"provider.requests_per_second": number(0.0, "DIGITALOCEAN_REQUESTS_PER_SECOND"),
	"provider.spaces_endpoint":     environment("https://{{.Region}}.digitaloceanspaces.com", "SPACES_ENDPOINT_URL"),
	"provider.spaces_access_id":    environment(nil, "SPACES_ACCESS_KEY_ID"),
	"provider.spaces_secret_key":   environment(nil, "SPACES_SECRET_ACCESS_KEY"),
}

func environment(otherwise any, names ...string) schema.SchemaDefaultFunc {
	return schema.MultiEnvDefaultFunc(names, otherwise)
}

func number[T int | float64](otherwise T, name string) schema.SchemaDefaultFunc {
	return func() (any, error) {
		text := os.Getenv(name)
		if text == "" {
			return otherwise, nil
		}
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return T(value), nil
	}
}
