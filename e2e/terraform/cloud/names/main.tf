terraform {
  required_providers {
    digitalocean = {
      source  = "digitalocean/digitalocean"
      version = "~> 2.40"
    }
  }
}

provider "digitalocean" {}

variable "updated" {
  type    = bool
  default = false
}

resource "digitalocean_domain" "main" {
  name = "tidepool.example"
}

resource "digitalocean_record" "api" {
  domain = digitalocean_domain.main.id
  type   = "A"
  name   = "api"
  value  = var.updated ? "192.0.2.2" : "192.0.2.1"
  ttl    = var.updated ? 60 : 30
}

resource "digitalocean_record" "www" {
  domain = digitalocean_domain.main.id
  type   = "CNAME"
  name   = "www"
  value  = "api.tidepool.example."
}

resource "digitalocean_record" "caa" {
  domain = digitalocean_domain.main.id
  type   = "CAA"
  name   = "@"
  value  = "letsencrypt.org."
  flags  = 0
  tag    = "issue"
}

resource "digitalocean_record" "mx" {
  domain   = digitalocean_domain.main.id
  type     = "MX"
  name     = "@"
  value    = "mail.tidepool.example."
  priority = 10
}

resource "digitalocean_record" "srv" {
  domain   = digitalocean_domain.main.id
  type     = "SRV"
  name     = "_seed._tcp"
  value    = "api.tidepool.example."
  priority = 0
  port     = 9042
  weight   = 1
}

resource "digitalocean_record" "txt" {
  domain = digitalocean_domain.main.id
  type   = "TXT"
  name   = "@"
  value  = "v=spf1 -all"
}
