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

resource "digitalocean_certificate" "api" {
  name    = "api-${var.updated ? 2 : 1}"
  type    = "lets_encrypt"
  domains = ["api.${digitalocean_domain.main.name}"]

  lifecycle {
    create_before_destroy = true
  }
}

resource "digitalocean_tag" "serving" {
  name = "serving:api"
}

resource "digitalocean_loadbalancer" "api" {
  name                             = "api"
  region                           = "nyc3"
  droplet_tag                      = digitalocean_tag.serving.id
  disable_lets_encrypt_dns_records = true

  forwarding_rule {
    entry_port       = 443
    entry_protocol   = "https"
    target_port      = 8080
    target_protocol  = "http"
    certificate_name = digitalocean_certificate.api.name
  }
  healthcheck {
    protocol = "http"
    port     = 9090
    path     = "/readyz"
  }
}

resource "digitalocean_record" "api" {
  domain = digitalocean_domain.main.name
  type   = "A"
  name   = "api"
  value  = digitalocean_loadbalancer.api.ip
}
