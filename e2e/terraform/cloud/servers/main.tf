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

variable "public_key" {
  type = string
}

data "digitalocean_account" "this" {}

data "digitalocean_region" "here" {
  slug = "nyc3"
}

data "digitalocean_regions" "all" {}

data "digitalocean_image" "web" {
  slug = "web"
}

data "digitalocean_images" "all" {}

data "digitalocean_vpc" "main" {
  id = digitalocean_vpc.main.id
}

data "digitalocean_droplets" "web" {
  filter {
    key    = "tags"
    values = ["serving:web"]
  }
  depends_on = [digitalocean_droplet.web]
}

resource "digitalocean_vpc" "main" {
  name        = "main"
  region      = data.digitalocean_region.here.slug
  description = var.updated ? "changed" : "first"
  ip_range    = "10.20.0.0/20"
}

resource "digitalocean_ssh_key" "ops" {
  name       = var.updated ? "operators" : "ops"
  public_key = var.public_key
}

resource "digitalocean_tag" "all" {
  for_each = toset(["serving:web", "fixed"])
  name     = each.key
}

resource "digitalocean_droplet" "web" {
  for_each    = toset(["web-1", "web-2"])
  name        = each.key
  region      = "nyc3"
  size        = "s-1vcpu-1gb"
  image       = data.digitalocean_image.web.slug
  ssh_keys    = [digitalocean_ssh_key.ops.fingerprint]
  monitoring  = true
  vpc_uuid    = digitalocean_vpc.main.id
  user_data   = "#cloud-config\nwrite_files:\n- path: /etc/name\n  content: ${each.key}\n"
  tags        = concat([digitalocean_tag.all["serving:web"].id], var.updated ? ["canary"] : [])
  resize_disk = false

  lifecycle {
    ignore_changes = [image, user_data]
  }
}

resource "digitalocean_droplet" "fixed" {
  name              = var.updated ? "renamed" : "fixed"
  region            = "nyc3"
  size              = var.updated ? "s-1vcpu-2gb" : "s-1vcpu-1gb"
  image             = "web"
  vpc_uuid          = digitalocean_vpc.main.id
  tags              = [digitalocean_tag.all["fixed"].id]
  graceful_shutdown = true
  resize_disk       = false
}

resource "digitalocean_loadbalancer" "plain" {
  name                      = "plain"
  region                    = "nyc3"
  vpc_uuid                  = digitalocean_vpc.main.id
  droplet_tag               = digitalocean_tag.all["serving:web"].id
  size_unit                 = 1
  enable_backend_keepalive  = var.updated
  http_idle_timeout_seconds = 90

  forwarding_rule {
    entry_port      = 80
    entry_protocol  = "http"
    target_port     = 8080
    target_protocol = "http"
  }
  healthcheck {
    protocol          = "http"
    port              = 9090
    path              = "/readyz"
    healthy_threshold = 2
  }
}
