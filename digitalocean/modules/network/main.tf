# What all parts stand on: the private network, the zone of names, the tags by which firewalls and the load balancer find hosts, the
# key by which deploy.sh gets in, and the project.

locals {
  # serving:<pool> and pool:<pool> are how the autoscaler marks its members.
  tags = {
    database   = "${var.name}-db"
    monitoring = "${var.name}-monitoring"
    autoscaler = "${var.name}-autoscaler"
    members    = "pool:${var.pool}"
    serving    = "serving:${var.pool}"
  }

  anywhere = ["0.0.0.0/0", "::/0"]

  # What every host may ask: names, the time, and an address by DHCP, which images of one's own need (DigitalOcean's limits of
  # firewalls). Within the VPC the other side decides.
  outbound = [
    { protocol = "tcp", ports = "all", to = [var.ip_range] },
    { protocol = "udp", ports = "all", to = [var.ip_range] },
    { protocol = "icmp", ports = null, to = [var.ip_range] },
    { protocol = "tcp", ports = "53", to = local.anywhere },
    { protocol = "udp", ports = "53", to = local.anywhere },
    { protocol = "udp", ports = "67", to = local.anywhere },
    { protocol = "udp", ports = "123", to = local.anywhere },
  ]
}

resource "digitalocean_project" "main" {
  name        = var.name
  description = "Tidepool, ${var.environment}"
  purpose     = "Service or API"
  environment = lookup({ prod = "Production", staging = "Staging" }, var.environment, "Development")
}

resource "digitalocean_vpc" "main" {
  name        = var.name
  description = "Tidepool, ${var.environment}"
  region      = var.region
  ip_range    = var.ip_range
}

resource "digitalocean_tag" "all" {
  for_each = local.tags

  name = each.value
}

resource "digitalocean_ssh_key" "deploy" {
  name       = "${var.name}-deploy"
  public_key = var.ssh_public_key
}

resource "digitalocean_domain" "main" {
  count = var.create_domain ? 1 : 0

  name = var.domain
}
