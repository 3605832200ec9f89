# The autoscaler's host, and its configuration. It alone has a public address: it asks DigitalOcean's API, and it is the way in to the
# others by ssh. No member of its pool is made here.

resource "digitalocean_droplet" "host" {
  name        = "${var.name}-autoscaler"
  region      = var.region
  image       = var.image
  size        = var.size
  vpc_uuid    = var.network.vpc_id
  ssh_keys    = var.ssh_keys
  tags        = [var.network.tags["autoscaler"]]
  user_data   = var.user_data
  resize_disk = false

  lifecycle {
    # Replaced on purpose alone: deploy.sh replace autoscaler. What it knows is observed again.
    ignore_changes = [image, user_data, ssh_keys]
  }
}

resource "digitalocean_record" "host" {
  domain = var.network.domain
  type   = "A"
  name   = "autoscaler.internal"
  value  = digitalocean_droplet.host.ipv4_address_private
  ttl    = 30
}

resource "digitalocean_firewall" "host" {
  name = "${var.name}-autoscaler"
  tags = [var.network.tags["autoscaler"]]

  inbound_rule {
    protocol         = "tcp"
    port_range       = tostring(var.ports["ssh"])
    source_addresses = var.ssh_allowed_ranges
  }
  inbound_rule {
    protocol         = "icmp"
    source_addresses = [var.network.ip_range]
  }

  # DigitalOcean's API, and Debian's mirrors.
  outbound_rule {
    protocol              = "tcp"
    port_range            = "443"
    destination_addresses = var.network.anywhere
  }
  outbound_rule {
    protocol              = "tcp"
    port_range            = "80"
    destination_addresses = var.network.anywhere
  }

  dynamic "outbound_rule" {
    for_each = var.network.outbound

    content {
      protocol              = outbound_rule.value.protocol
      port_range            = outbound_rule.value.ports
      destination_addresses = outbound_rule.value.to
    }
  }
}

locals {
  config = templatefile("${path.module}/autoscaler.toml.tftpl", {
    elasticsearch_url = var.elasticsearch_url
    api_url           = var.api_url
    region            = var.region
    vpc_id            = var.network.vpc_id
    ssh_keys          = var.ssh_keys
    ops_port          = var.ports["operations"]
    pool              = var.pool
  })
}
