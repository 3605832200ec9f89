# Hosts of the database, each with a volume that outlives it. Cassandra's settings and secrets come by Ansible.

locals {
  # By name, so that the loss of one changes nothing about the others.
  hosts = { for number in range(1, var.replicas + 1) : "db-${number}" => number }
  # Two of them are seeds: names that stay when hosts are replaced.
  seeds = { for number in range(1, min(2, var.replicas) + 1) : "seed-${number}" => "db-${number}" }
}

resource "digitalocean_volume" "data" {
  for_each = local.hosts

  name                    = "${var.name}-${each.key}"
  description             = "Cassandra's data of ${var.name}-${each.key}"
  region                  = var.region
  size                    = var.volume_gib
  initial_filesystem_type = "ext4"

  lifecycle {
    # The documents. deploy.sh destroy keeps them unless it is told otherwise.
    prevent_destroy = true
    # Fewer hosts in a variable must not remove the volumes of those that go; see docs/digitalocean.md.
    ignore_changes = [initial_filesystem_type]
  }
}

resource "digitalocean_droplet" "host" {
  for_each = local.hosts

  name              = "${var.name}-${each.key}"
  region            = var.region
  image             = var.image
  size              = var.size
  vpc_uuid          = var.network.vpc_id
  public_networking = var.public_networking
  ssh_keys          = var.ssh_keys
  tags              = [var.network.tags["database"]]
  user_data         = var.user_data
  graceful_shutdown = true
  # A larger size must not enlarge the disk: it could never shrink again, and the data is on the volume.
  resize_disk = false

  lifecycle {
    # A database host is replaced on purpose, one at a time, never because an image is new.
    ignore_changes = [image, user_data, ssh_keys]
  }
}

resource "digitalocean_volume_attachment" "data" {
  for_each = local.hosts

  droplet_id = digitalocean_droplet.host[each.key].id
  volume_id  = digitalocean_volume.data[each.key].id
}

resource "digitalocean_record" "host" {
  for_each = local.hosts

  domain = var.network.domain
  type   = "A"
  name   = "${each.key}.internal"
  value  = digitalocean_droplet.host[each.key].ipv4_address_private
  ttl    = 30
}

resource "digitalocean_record" "seed" {
  for_each = local.seeds

  domain = var.network.domain
  type   = "A"
  name   = "${each.key}.internal"
  value  = digitalocean_droplet.host[each.value].ipv4_address_private
  ttl    = 30
}

resource "digitalocean_firewall" "host" {
  name = "${var.name}-db"
  tags = [var.network.tags["database"]]

  # Between members: gossip, and how hosts find each other.
  inbound_rule {
    protocol    = "tcp"
    port_range  = tostring(var.ports["gossip"])
    source_tags = [var.network.tags["database"]]
  }
  inbound_rule {
    protocol    = "tcp"
    port_range  = tostring(var.ports["members"])
    source_tags = [var.network.tags["database"]]
  }
  inbound_rule {
    protocol    = "tcp"
    port_range  = tostring(var.ports["cassandra"])
    source_tags = [var.network.tags["database"], var.network.tags["members"]]
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
