//go:build tools

// Package googlecompute names the command that is built, so that its requirements are written down in go.mod and go.sum.
package googlecompute

import _ "github.com/hashicorp/packer-plugin-googlecompute"
