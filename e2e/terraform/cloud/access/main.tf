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

resource "digitalocean_tag" "web" {
  name = "web"
}

resource "digitalocean_droplet" "web" {
  name   = "web-1"
  region = "nyc3"
  size   = "s-1vcpu-1gb"
  image  = "web"
  tags   = [digitalocean_tag.web.id]
}

resource "digitalocean_firewall" "web" {
  name = "web"
  tags = [digitalocean_tag.web.id]

  inbound_rule {
    protocol         = "tcp"
    port_range       = "22"
    source_addresses = ["203.0.113.7/32", "2001:db8::/48"]
  }
  inbound_rule {
    protocol    = "tcp"
    port_range  = var.updated ? "8080-8081" : "8080"
    source_tags = [digitalocean_tag.web.id]
  }
  inbound_rule {
    protocol         = "icmp"
    source_addresses = ["10.0.0.0/8"]
  }
  dynamic "inbound_rule" {
    for_each = var.updated ? [5601] : []
    content {
      protocol           = "udp"
      port_range         = inbound_rule.value
      source_droplet_ids = [digitalocean_droplet.web.id]
    }
  }
  outbound_rule {
    protocol              = "tcp"
    port_range            = "all"
    destination_addresses = ["0.0.0.0/0", "::/0"]
  }
  outbound_rule {
    protocol              = "tcp"
    port_range            = "1-65535"
    destination_addresses = ["10.0.0.0/8"]
  }
  outbound_rule {
    protocol              = "udp"
    port_range            = "all"
    destination_addresses = ["0.0.0.0/0", "::/0"]
  }
}

resource "digitalocean_reserved_ip" "web" {
  region = "nyc3"
}

resource "digitalocean_reserved_ip_assignment" "web" {
  ip_address = digitalocean_reserved_ip.web.ip_address
  droplet_id = digitalocean_droplet.web.id
}
