# The host that takes everybody's metrics, and its volume, which outlives it.

resource "digitalocean_volume" "data" {
  name                    = "${var.name}-monitoring"
  description             = "Elasticsearch's data of ${var.name}-monitoring"
  region                  = var.region
  size                    = var.volume_gib
  initial_filesystem_type = "ext4"

  lifecycle {
    prevent_destroy = true
    ignore_changes  = [initial_filesystem_type]
  }
}

resource "digitalocean_droplet" "host" {
  name              = "${var.name}-monitoring"
  region            = var.region
  image             = var.image
  size              = var.size
  vpc_uuid          = var.network.vpc_id
  public_networking = var.public_networking
  ssh_keys          = var.ssh_keys
  tags              = [var.network.tags["monitoring"]]
  user_data         = var.user_data
  graceful_shutdown = true
  resize_disk       = false

  lifecycle {
    # Replaced on purpose alone: deploy.sh replace monitoring.
    ignore_changes = [image, user_data, ssh_keys]
  }
}

resource "digitalocean_volume_attachment" "data" {
  droplet_id = digitalocean_droplet.host.id
  volume_id  = digitalocean_volume.data.id
}

resource "digitalocean_record" "host" {
  domain = var.network.domain
  type   = "A"
  name   = "monitoring.internal"
  value  = digitalocean_droplet.host.ipv4_address_private
  ttl    = 30
}

resource "digitalocean_firewall" "host" {
  name = "${var.name}-monitoring"
  tags = [var.network.tags["monitoring"]]

  # Every host sends its metrics, and nobody outside.
  inbound_rule {
    protocol         = "tcp"
    port_range       = tostring(var.ports["elasticsearch"])
    source_addresses = [var.network.ip_range]
  }
  inbound_rule {
    protocol    = "tcp"
    port_range  = tostring(var.ports["ssh"])
    source_tags = [var.network.tags["autoscaler"]]
  }
  inbound_rule {
    protocol         = "icmp"
    source_addresses = [var.network.ip_range]
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
