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

data "digitalocean_project" "default" {}

resource "digitalocean_droplet" "web" {
  count  = 2
  name   = "web-${count.index}"
  region = "nyc3"
  size   = "s-1vcpu-1gb"
  image  = "web"
}

resource "digitalocean_project" "main" {
  name        = "main"
  description = var.updated ? "changed" : "first"
  purpose     = "Service or API"
  environment = "Staging"
}

resource "digitalocean_project_resources" "main" {
  project   = digitalocean_project.main.id
  resources = [digitalocean_droplet.web[var.updated ? 1 : 0].urn]
}
