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

variable "pem_dir" {
  type = string
}

locals {
  certificate = var.updated ? 2 : 1
}

resource "digitalocean_tag" "serving" {
  name = "serving:api"
}

resource "digitalocean_certificate" "api" {
  name              = "api-${local.certificate}"
  private_key       = file("${var.pem_dir}/key-${local.certificate}.pem")
  leaf_certificate  = file("${var.pem_dir}/leaf-${local.certificate}.pem")
  certificate_chain = file("${var.pem_dir}/chain.pem")

  lifecycle {
    create_before_destroy = true
  }
}

resource "digitalocean_loadbalancer" "api" {
  name                             = "api"
  region                           = "nyc3"
  droplet_tag                      = digitalocean_tag.serving.id
  size_unit                        = var.updated ? 2 : 1
  redirect_http_to_https           = true
  enable_backend_keepalive         = true
  disable_lets_encrypt_dns_records = true
  http_idle_timeout_seconds        = 60

  forwarding_rule {
    entry_port       = 443
    entry_protocol   = "https"
    target_port      = 8080
    target_protocol  = "http"
    certificate_name = digitalocean_certificate.api.name
  }
  forwarding_rule {
    entry_port      = 80
    entry_protocol  = "http"
    target_port     = 8080
    target_protocol = "http"
  }
  healthcheck {
    protocol = "http"
    port     = 9090
    path     = "/readyz"
  }
  firewall {
    deny = ["cidr:192.0.2.0/24"]
  }
}
