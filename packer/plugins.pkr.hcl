# tools/fetch builds these very versions; see tools/*/go.mod.
packer {
  required_version = ">= 1.16.0"
  required_plugins {
    digitalocean = {
      source  = "github.com/digitalocean/digitalocean"
      version = "1.4.1"
    }
    googlecompute = {
      source  = "github.com/hashicorp/googlecompute"
      version = "1.2.7"
    }
  }
}
