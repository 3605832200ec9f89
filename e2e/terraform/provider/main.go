// Tidepool's stand-in for DigitalOcean's Terraform provider, for where the real one can't be had: the same schema, the same calls and
// the same state, as they were observed. It is for tests against a local cloud, and refuses DigitalOcean's own address.
package main

import (
	"fmt"
	"os"

	"github.com/hashicorp/terraform-plugin-sdk/v2/helper/schema"
	"github.com/hashicorp/terraform-plugin-sdk/v2/plugin"
)

func main() {
	provider, err := newProvider()
	if err != nil {
		fmt.Fprintln(os.Stderr, "terraform-provider-digitalocean (Tidepool's stand-in):", err)
		os.Exit(1)
	}
	plugin.Serve(&plugin.ServeOpts{ProviderFunc: func() *schema.Provider { return provider }})
}
