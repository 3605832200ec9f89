package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"sort"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/terraform-plugin-sdk/v2/diag"
	"github.com/hashicorp/terraform-plugin-sdk/v2/helper/schema"
)

// WAITS=real makes the real provider's pauses, of 10 s and more; otherwise it looks at once and often.
const waitsVariable = "TIDEPOOL_STAND_IN_WAITS"

const warning = "This is Tidepool's stand-in for digitalocean/digitalocean, not the real provider"

// cloud is what a configured provider knows.
type cloud struct {
	api   *api
	table *table
	slow  bool
	made  atomic.Uint32
}

func (c *cloud) times(name string) waitTimes {
	times := c.table.Waits[name]
	if c.slow {
		return times
	}
	return times.fast()
}

func (c *cloud) unique() string { return uniqueAt(time.Now(), c.made.Add(1)) }

func newProvider() (*schema.Provider, error) {
	var facts behaviour
	if err := json.Unmarshal(behaviourJSON, &facts); err != nil {
		return nil, fmt.Errorf("behaviour.json: %w", err)
	}
	calls, err := readTable()
	if err != nil {
		return nil, err
	}
	made := &schema.Provider{ResourcesMap: map[string]*schema.Resource{}, DataSourcesMap: map[string]*schema.Resource{}}
	if made.Schema, err = attributes("provider", facts.Provider); err != nil {
		return nil, err
	}
	for name := range calls.Resources {
		if made.ResourcesMap[name], err = newResource(name, facts.Resources, calls); err != nil {
			return nil, err
		}
	}
	for name := range calls.DataSources {
		if made.DataSourcesMap[name], err = newDataSource(name, facts.DataSources, calls); err != nil {
			return nil, err
		}
	}
	made.ConfigureContextFunc = func(_ context.Context, d *schema.ResourceData) (any, diag.Diagnostics) {
		return configure(d, calls)
	}
	return made, nil
}

func configure(d *schema.ResourceData, calls *table) (any, diag.Diagnostics) {
	endpoint := d.Get("api_endpoint").(string)
	address, err := url.Parse(endpoint)
	if err != nil || address.Host == "" {
		return nil, diag.Errorf("api_endpoint: %q is not an address", endpoint)
	}
	if host := address.Hostname(); host == "digitalocean.com" || strings.HasSuffix(host, ".digitalocean.com") {
		return nil, diag.Errorf("The stand-in is for tests against a local cloud and makes nothing at %s. Set DIGITALOCEAN_API_URL, or install the real provider.", host)
	}
	secs := func(name string) time.Duration { return seconds(d.Get(name).(float64)) }
	made := &cloud{table: calls, slow: os.Getenv(waitsVariable) == "real", api: &api{
		endpoint: endpoint, token: d.Get("token").(string), retries: d.Get("http_retry_max").(int),
		waitMin: secs("http_retry_wait_min"), waitMax: secs("http_retry_wait_max"),
	}}
	if rate := d.Get("requests_per_second").(float64); rate > 0 {
		made.api.pace.gap = seconds(1 / rate)
	}
	return made, diag.Diagnostics{{Severity: diag.Warning, Summary: warning,
		Detail: "It makes the calls that the real one was seen to make, for the resource types that Tidepool uses. What it does proves nothing of DigitalOcean."}}
}

func newResource(name string, facts map[string]typeFacts, calls *table) (*schema.Resource, error) {
	known, there := facts[name]
	if !there {
		return nil, fmt.Errorf("table.json has %s, and behaviour.json has not", name)
	}
	row := calls.Resources[name]
	made := &schema.Resource{SchemaVersion: known.SchemaVersion}
	var err error
	if made.Schema, err = attributes(name, known.Attributes); err != nil {
		return nil, err
	}
	if made.Timeouts, err = timeouts(known.Timeouts); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if known.CustomizeDiff {
		check, there := planChecks[name]
		if !there {
			return nil, fmt.Errorf("%s looks at whole plans in a way that the stand-in does not know", name)
		}
		made.CustomizeDiff = check
	}
	if known.Importable {
		made.Importer = &schema.ResourceImporter{StateContext: schema.ImportStatePassthroughContext}
	}
	do := func(operation string, steps []step) func(context.Context, *schema.ResourceData, any) diag.Diagnostics {
		return func(ctx context.Context, d *schema.ResourceData, meta any) diag.Diagnostics {
			return operate(ctx, &run{cloud: meta.(*cloud), row: &row, schema: made.Schema, d: d, operation: operation,
				seen: map[string]any{}, kept: map[string]any{}}, steps)
		}
	}
	made.CreateContext, made.ReadContext = do("create", row.Create), do("read", []step{{Read: true}})
	made.DeleteContext = do("delete", row.Delete)
	if known.Updatable {
		made.UpdateContext = do("update", row.Update)
	}
	return made, nil
}

func operate(ctx context.Context, r *run, steps []step) diag.Diagnostics {
	if r.operation == "create" || r.operation == "update" {
		if unknown := r.unknown(); len(unknown) > 0 {
			return diag.Errorf("The stand-in does not know what the real provider does with %s.", strings.Join(unknown, ", "))
		}
	}
	if err := r.steps(ctx, steps); err != nil {
		return diag.FromErr(err)
	}
	if r.operation == "delete" {
		r.d.SetId("")
	}
	return nil
}

// unknown are attributes that are configured and that the table doesn't have: they would be dropped without a word.
func (r *run) unknown() []string {
	known := map[string]bool{}
	for i := range r.row.Fields {
		known[r.row.Fields[i].Attribute] = true
	}
	config := r.d.GetRawConfig()
	var found []string
	for name, attribute := range r.schema {
		if known[name] || !attribute.Optional && !attribute.Required {
			continue
		}
		value := config.GetAttr(name)
		if value.IsNull() || value.CanIterateElements() && value.LengthInt() == 0 {
			continue
		}
		found = append(found, name)
	}
	sort.Strings(found)
	return found
}
