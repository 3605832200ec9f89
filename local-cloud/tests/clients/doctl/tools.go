//go:build tools

// Package doctl names the command that is built, so that its requirements are written down in go.mod and go.sum.
package doctl

import _ "github.com/digitalocean/doctl/cmd/doctl"
