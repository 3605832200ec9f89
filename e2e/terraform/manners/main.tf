# A key and a network; by variables also a droplet, a reserved address for one, and the list of regions.

terraform {
  required_providers {
    digitalocean = {
      source  = "digitalocean/digitalocean"
      version = "~> 2.40"
    }
  }
}

provider "digitalocean" {
  http_retry_wait_min = 0.01
  http_retry_max      = 2
}

variable "parts" {
  type    = string
  default = ""
}

locals {
  parts = split(",", var.parts)
}

resource "digitalocean_vpc" "main" {
  count  = contains(local.parts, "vpc") ? 1 : 0
  name   = "main"
  region = "nyc3"
}

resource "digitalocean_droplet" "one" {
  count  = contains(local.parts, "droplet") ? 1 : 0
  name   = "one"
  region = "nyc3"
  size   = "s-1vcpu-1gb"
  image  = "web"
}

resource "digitalocean_reserved_ip" "one" {
  count      = contains(local.parts, "reserved_ip_of_droplet") ? 1 : 0
  region     = "nyc3"
  droplet_id = 1
}

resource "digitalocean_record" "mail" {
  count  = contains(local.parts, "mail_without_priority") ? 1 : 0
  domain = "tidepool.example"
  type   = "MX"
  name   = "@"
  value  = "mail.tidepool.example."
}

data "digitalocean_regions" "all" {
  count = contains(local.parts, "regions") ? 1 : 0
}

output "regions" {
  value = flatten([for found in data.digitalocean_regions.all : found.regions[*].slug])
}
