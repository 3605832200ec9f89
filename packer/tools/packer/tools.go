//go:build tools

// Package packer names the command that is built, so that its requirements are written down in go.mod and go.sum.
package packer

import _ "github.com/hashicorp/packer"
