//go:build tools

// Package digitalocean names the command that is built, so that its requirements are written down in go.mod and go.sum.
package digitalocean

import _ "github.com/digitalocean/packer-plugin-digitalocean"
