//go:build tools

// Package tofu names the command that is built, so that its requirements are written down in go.mod and go.sum.
package tofu

import _ "github.com/opentofu/opentofu/cmd/tofu"
