package main

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/hashicorp/terraform-plugin-sdk/v2/helper/customdiff"
	"github.com/hashicorp/terraform-plugin-sdk/v2/helper/schema"
)

// stateFuncs: what stands in the state in place of what was configured.
var stateFuncs = map[string]schema.SchemaStateFunc{
	"digitalocean_droplet.region":                lower,
	"digitalocean_droplet.size":                  lower,
	"digitalocean_droplet.user_data":             sha1Hex,
	"digitalocean_volume.region":                 lower,
	"digitalocean_loadbalancer.region":           lower,
	"digitalocean_reserved_ip.region":            lower,
	"digitalocean_certificate.private_key":       sha1Hex,
	"digitalocean_certificate.leaf_certificate":  sha1Hex,
	"digitalocean_certificate.certificate_chain": sha1Hex,
}

func lower(value any) string { return strings.ToLower(value.(string)) }

// sha1Hex keeps what may be secret or long out of the state. It is a name for the text, not a protection.
func sha1Hex(value any) string {
	sum := sha1.Sum([]byte(value.(string)))
	return hex.EncodeToString(sum[:])
}

// suppressions: differences between state and configuration that are none.
var suppressions = map[string]schema.SchemaDiffSuppressFunc{
	"digitalocean_ssh_key.public_key": func(_, old, new string, _ *schema.ResourceData) bool {
		return strings.TrimSpace(old) == strings.TrimSpace(new)
	},
	// A state from before the hashes holds the text itself.
	"digitalocean_droplet.user_data":             storedInFull("user_data"),
	"digitalocean_certificate.private_key":       storedInFull("private_key"),
	"digitalocean_certificate.leaf_certificate":  storedInFull("leaf_certificate"),
	"digitalocean_certificate.certificate_chain": storedInFull("certificate_chain"),
	// A custom certificate's domains are read out of it.
	"digitalocean_certificate.domains": func(_, _, _ string, d *schema.ResourceData) bool {
		return d.Get("type").(string) == "custom"
	},
	"digitalocean_loadbalancer.droplet_tag": sameText,
	// Of size and size_unit one says what the other does.
	"digitalocean_loadbalancer.size": func(_, old, new string, d *schema.ResourceData) bool {
		return sizeUnits[new] != 0 && sizeUnits[new] == d.Get("size_unit").(int) && old == ""
	},
	"digitalocean_record.name": func(_, old, new string, d *schema.ResourceData) bool {
		return old == new || old == strings.TrimSuffix(new, "."+d.Get("domain").(string)+".") || old == "@" && new == d.Get("domain").(string)+"."
	},
	"digitalocean_record.value": func(_, old, new string, d *schema.ResourceData) bool {
		domain := d.Get("domain").(string) + "."
		return old == new || old == "@" && new == domain || old == domain && new == "@" || old+"."+domain == new
	},
	"digitalocean_project.environment": sameText,
}

// sizeUnits: how many nodes a balancer of each named size has, by DigitalOcean's OpenAPI file (`lb-small`, `lb-medium`, `lb-large`).
var sizeUnits = map[string]int{"lb-small": 1, "lb-medium": 3, "lb-large": 6}

func sameText(_, old, new string, _ *schema.ResourceData) bool { return strings.EqualFold(old, new) }

func storedInFull(attribute string) schema.SchemaDiffSuppressFunc {
	return func(_, old, new string, d *schema.ResourceData) bool { return new != "" && old == d.Get(attribute) }
}

// setHashes: which elements of a set are the same. Those that are not here are tags.
var setHashes = map[string]schema.SchemaSetFunc{"digitalocean_loadbalancer.forwarding_rule": hashOfRule}

func hashWithoutCase(value any) int { return schema.HashString(strings.ToLower(value.(string))) }

func hashOfRule(value any) int {
	rule := value.(map[string]any)
	var text bytes.Buffer
	fmt.Fprintf(&text, "%d-%d-", rule["entry_port"], rule["target_port"])
	for _, name := range []string{"entry_protocol", "target_protocol"} {
		fmt.Fprintf(&text, "%s-", strings.ToLower(rule[name].(string)))
	}
	certificate, _ := rule["certificate_id"].(string)
	if certificate == "" {
		certificate, _ = rule["certificate_name"].(string)
	}
	fmt.Fprintf(&text, "%s-%v", certificate, rule["tls_passthrough"])
	return schema.HashString(text.String())
}

func notEmpty(value any, name string) ([]string, []error) {
	if text, _ := value.(string); text == "" {
		return nil, []error{fmt.Errorf("%s must not be empty", name)}
	}
	return nil, nil
}

// planChecks: what is refused, or replaced, by looking at a whole plan.
var planChecks = map[string]schema.CustomizeDiffFunc{
	"digitalocean_droplet": customdiff.ForceNewIfChange("ipv6", func(_ context.Context, old, new, _ any) bool {
		return old.(bool) && !new.(bool)
	}),
	"digitalocean_volume": customdiff.ValidateChange("size", func(_ context.Context, old, new, _ any) error {
		if new.(int) < old.(int) {
			return fmt.Errorf("a volume can only be expanded: from %d to %d GiB is not possible", old, new)
		}
		return nil
	}),
	"digitalocean_firewall":     checkRules,
	"digitalocean_loadbalancer": checkBalancer,
	"digitalocean_record":       checkRecord,
}

func checkRules(_ context.Context, d *schema.ResourceDiff, _ any) error {
	for _, kind := range []string{"inbound_rule", "outbound_rule"} {
		if !d.NewValueKnown(kind) {
			continue
		}
		for _, each := range d.Get(kind).(*schema.Set).List() {
			rule := each.(map[string]any)
			if rule["protocol"] != "icmp" && rule["protocol"] != "" && rule["port_range"] == "" {
				return fmt.Errorf("%s: port_range is required for the protocol %v", kind, rule["protocol"])
			}
		}
	}
	return nil
}

func checkBalancer(_ context.Context, d *schema.ResourceDiff, _ any) error {
	if d.NewValueKnown("healthcheck") && d.NewValueKnown("healthcheck.0.path") && d.NewValueKnown("healthcheck.0.protocol") {
		protocol, path := d.Get("healthcheck.0.protocol"), d.Get("healthcheck.0.path")
		_, there := d.GetOk("healthcheck")
		switch {
		case there && protocol == "tcp" && path != "":
			return fmt.Errorf("healthcheck: a path is not possible with the protocol tcp")
		case there && (protocol == "http" || protocol == "https") && path == "":
			return fmt.Errorf("healthcheck: a path is required with the protocol %v", protocol)
		}
	}
	if d.NewValueKnown("sticky_sessions") && d.Get("sticky_sessions.0.type") == "cookies" {
		for _, name := range []string{"cookie_name", "cookie_ttl_seconds"} {
			if _, there := d.GetOk("sticky_sessions.0." + name); !there && d.NewValueKnown("sticky_sessions.0."+name) {
				return fmt.Errorf("sticky_sessions: %s is required with the type cookies", name)
			}
		}
	}
	return nil
}

// What a kind of record needs beside its value. A priority, weight or flag of 0 is a value, so the configuration itself is asked.
var neededByRecord = map[string][]string{"MX": {"priority"}, "SRV": {"priority", "port", "weight"}, "CAA": {"flags", "tag"}}

func checkRecord(_ context.Context, d *schema.ResourceDiff, _ any) error {
	config := d.GetRawConfig()
	for _, name := range neededByRecord[d.Get("type").(string)] {
		if value := config.GetAttr(name); value.IsKnown() && value.IsNull() {
			return fmt.Errorf("%s is required for a record of the type %s", name, d.Get("type"))
		}
	}
	return nil
}
