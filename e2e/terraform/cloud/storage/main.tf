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

resource "digitalocean_droplet" "db" {
  name   = "db-1"
  region = "nyc3"
  size   = "s-1vcpu-1gb"
  image  = "web"
}

resource "digitalocean_volume" "data" {
  name                     = "db-1-data"
  region                   = "nyc3"
  size                     = var.updated ? 12 : 10
  description              = "Data of db-1"
  initial_filesystem_type  = "ext4"
  initial_filesystem_label = "data"
  tags                     = concat(["data"], var.updated ? ["canary"] : [])
}

resource "digitalocean_volume" "log" {
  name   = "db-1-log"
  region = "nyc3"
  size   = 1
}

resource "digitalocean_volume_attachment" "data" {
  droplet_id = digitalocean_droplet.db.id
  volume_id  = digitalocean_volume.data.id
}

resource "digitalocean_volume_attachment" "log" {
  droplet_id = digitalocean_droplet.db.id
  volume_id  = digitalocean_volume.log.id
}
