# The root that the real provider was observed with, written anew from what it sent; without the container registry.

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
  type        = bool
  default     = false
  description = "Whether the root is as it was after the update that was observed."
}

variable "pem_dir" {
  type        = string
  description = "Where certificates and their keys are."
}

locals {
  region      = "nyc3"
  databases   = toset(["db-1", "db-2", "db-3"])
  certificate = var.updated ? 2 : 1
  ssh_from    = ["203.0.113.7/32", "2001:db8::/48"]
  network     = "10.20.0.0/20"
  anywhere    = ["0.0.0.0/0", "::/0"]
  db_tags     = concat(["tidepool", "tidepool-db"], var.updated ? ["canary"] : [])
  user_data = { for name in ["autoscaler", "monitoring", "db-1", "db-2", "db-3"] : name => <<-EOT
    #cloud-config
    write_files:
      - path: /etc/tidepool/first-boot.json
        permissions: "0600"
        content: '{"name":"${name}","enrol":"http://10.20.0.5:7000"}'
    EOT
  }
}

data "digitalocean_account" "this" {}

data "digitalocean_region" "here" {
  slug = local.region
}

data "digitalocean_regions" "storage" {
  filter {
    key    = "features"
    values = ["storage"]
  }
}

data "digitalocean_image" "db" {
  name = var.updated ? "tidepool-db-0.3.2" : "tidepool-db-0.3.1"
}

data "digitalocean_image" "monitoring" {
  name = "tidepool-monitoring-0.3.1"
}

data "digitalocean_images" "tidepool" {
  filter {
    key    = "private"
    values = ["true"]
  }
  sort {
    key       = "created"
    direction = "desc"
  }
}

data "digitalocean_droplets" "db" {
  filter {
    key    = "tags"
    values = ["tidepool-db"]
  }
  depends_on = [digitalocean_droplet.db]
}

resource "digitalocean_vpc" "main" {
  name        = "tidepool"
  region      = local.region
  description = var.updated ? "changed" : "Tidepool production"
  ip_range    = local.network
}

resource "digitalocean_ssh_key" "ci" {
  name       = "tidepool-ci"
  public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOPyI7kLsKtWYfbEXwGLAFSLQy5flnuJyBGwTbwOArLK ci@runner"
}

resource "digitalocean_ssh_key" "ops" {
  name       = "tidepool-ops"
  public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBXsF08RjKUU+TVeEJU7IPSu3H8DHPI5Vp8Paj+PVLCU ops@laptop\n"
}

resource "digitalocean_tag" "all" {
  for_each = toset(["tidepool", "tidepool-db", "tidepool-monitoring", "tidepool-autoscaler", "serving:api", "team:data"])
  name     = each.key
}

resource "digitalocean_droplet" "db" {
  for_each          = local.databases
  name              = each.key
  region            = local.region
  size              = "s-2vcpu-4gb"
  image             = data.digitalocean_image.db.id
  ssh_keys          = [digitalocean_ssh_key.ci.id, digitalocean_ssh_key.ops.fingerprint]
  monitoring        = true
  droplet_agent     = false
  graceful_shutdown = true
  vpc_uuid          = digitalocean_vpc.main.id
  user_data         = local.user_data[each.key]
  tags              = local.db_tags
  depends_on        = [digitalocean_tag.all]
  lifecycle {
    ignore_changes = [image, user_data, ssh_keys]
  }
}

resource "digitalocean_droplet" "monitoring" {
  name      = "monitoring"
  region    = local.region
  size      = "s-2vcpu-4gb"
  image     = data.digitalocean_image.monitoring.id
  ssh_keys  = [digitalocean_ssh_key.ops.id]
  vpc_uuid  = digitalocean_vpc.main.id
  user_data = local.user_data["monitoring"]
  tags      = [digitalocean_tag.all["tidepool"].id, digitalocean_tag.all["tidepool-monitoring"].id]
}

resource "digitalocean_droplet" "autoscaler" {
  name        = "autoscaler"
  region      = local.region
  size        = var.updated ? "s-1vcpu-2gb" : "s-1vcpu-1gb"
  resize_disk = false
  image       = "ubuntu-24-04-x64"
  ssh_keys    = [digitalocean_ssh_key.ops.id]
  monitoring  = true
  vpc_uuid    = digitalocean_vpc.main.id
  user_data   = local.user_data["autoscaler"]
  tags        = [digitalocean_tag.all["tidepool"].id, digitalocean_tag.all["tidepool-autoscaler"].id]
}

resource "digitalocean_volume" "db" {
  for_each                 = local.databases
  name                     = "${each.key}-data"
  region                   = local.region
  size                     = var.updated ? 120 : 100
  description              = "Cassandra data of ${each.key}"
  initial_filesystem_type  = "xfs"
  initial_filesystem_label = "dbdata"
  tags                     = ["tidepool-db"]
  depends_on               = [digitalocean_tag.all]
}

resource "digitalocean_volume" "commitlog" {
  name   = "db-1-commitlog"
  region = local.region
  size   = 10
}

resource "digitalocean_volume_attachment" "db" {
  for_each   = local.databases
  droplet_id = digitalocean_droplet.db[each.key].id
  volume_id  = digitalocean_volume.db[each.key].id
}

resource "digitalocean_volume_attachment" "commitlog" {
  droplet_id = digitalocean_droplet.db["db-1"].id
  volume_id  = digitalocean_volume.commitlog.id
}

resource "digitalocean_firewall" "db" {
  name = "tidepool-db"
  tags = [digitalocean_tag.all["tidepool-db"].id]
  inbound_rule {
    protocol         = "tcp"
    port_range       = "22"
    source_addresses = local.ssh_from
  }
  inbound_rule {
    protocol    = "tcp"
    port_range  = "9042"
    source_tags = [digitalocean_tag.all["serving:api"].id, digitalocean_tag.all["tidepool-autoscaler"].id]
  }
  inbound_rule {
    protocol    = "tcp"
    port_range  = "7000-7001"
    source_tags = [digitalocean_tag.all["tidepool-db"].id]
  }
  inbound_rule {
    protocol         = "tcp"
    port_range       = "9090"
    source_addresses = [local.network]
  }
  inbound_rule {
    protocol         = "icmp"
    source_addresses = [local.network]
  }
  outbound_rule {
    protocol              = "tcp"
    port_range            = "all"
    destination_addresses = local.anywhere
  }
  outbound_rule {
    protocol              = "udp"
    port_range            = "all"
    destination_addresses = local.anywhere
  }
}

resource "digitalocean_firewall" "monitoring" {
  name = "tidepool-monitoring"
  tags = [digitalocean_tag.all["tidepool-monitoring"].id]
  inbound_rule {
    protocol         = "tcp"
    port_range       = "22"
    source_addresses = local.ssh_from
  }
  inbound_rule {
    protocol         = "tcp"
    port_range       = "9200"
    source_addresses = [local.network]
  }
  dynamic "inbound_rule" {
    for_each = var.updated ? [5601] : []
    content {
      protocol           = "tcp"
      port_range         = inbound_rule.value
      source_droplet_ids = [digitalocean_droplet.autoscaler.id]
    }
  }
  outbound_rule {
    protocol              = "tcp"
    port_range            = "all"
    destination_addresses = local.anywhere
  }
}

resource "digitalocean_firewall" "serving" {
  name = "tidepool-serving"
  tags = [digitalocean_tag.all["serving:api"].id]
  inbound_rule {
    protocol         = "tcp"
    port_range       = "22"
    source_addresses = local.ssh_from
  }
  inbound_rule {
    protocol                  = "tcp"
    port_range                = "8080"
    source_load_balancer_uids = [digitalocean_loadbalancer.api.id]
  }
  inbound_rule {
    protocol                  = "tcp"
    port_range                = "9090"
    source_addresses          = [local.network]
    source_load_balancer_uids = [digitalocean_loadbalancer.api.id]
  }
  outbound_rule {
    protocol              = "tcp"
    port_range            = "1-65535"
    destination_addresses = local.anywhere
  }
  outbound_rule {
    protocol              = "udp"
    port_range            = "all"
    destination_addresses = local.anywhere
  }
  outbound_rule {
    protocol              = "icmp"
    destination_addresses = local.anywhere
  }
}

resource "digitalocean_certificate" "api" {
  name              = "tidepool-api-${local.certificate}"
  private_key       = file("${var.pem_dir}/key-${local.certificate}.pem")
  leaf_certificate  = file("${var.pem_dir}/leaf-${local.certificate}.pem")
  certificate_chain = file("${var.pem_dir}/chain.pem")
  lifecycle {
    create_before_destroy = true
  }
}

resource "digitalocean_loadbalancer" "api" {
  name                      = "tidepool-api"
  region                    = local.region
  size_unit                 = 2
  droplet_tag               = "serving:api"
  vpc_uuid                  = digitalocean_vpc.main.id
  project_id                = digitalocean_project.tidepool.id
  redirect_http_to_https    = true
  enable_backend_keepalive  = true
  http_idle_timeout_seconds = 90
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
    protocol          = "http"
    port              = 9090
    path              = "/readyz"
    healthy_threshold = 3
  }
  firewall {
    deny = ["cidr:192.0.2.0/24"]
  }
  depends_on = [digitalocean_tag.all]
}

resource "digitalocean_domain" "main" {
  name = "tidepool.example"
}

resource "digitalocean_record" "apex" {
  domain = digitalocean_domain.main.id
  type   = "A"
  name   = "@"
  value  = digitalocean_loadbalancer.api.ip
}

resource "digitalocean_record" "api" {
  domain = digitalocean_domain.main.id
  type   = "A"
  name   = "api"
  value  = digitalocean_loadbalancer.api.ip
  ttl    = 60
}

resource "digitalocean_record" "www" {
  domain = digitalocean_domain.main.id
  type   = "CNAME"
  name   = "www"
  value  = "api.tidepool.example."
}

resource "digitalocean_record" "caa" {
  domain = digitalocean_domain.main.id
  type   = "CAA"
  name   = "@"
  value  = "letsencrypt.org."
  flags  = 0
  tag    = "issue"
}

resource "digitalocean_record" "txt" {
  domain = digitalocean_domain.main.id
  type   = "TXT"
  name   = "@"
  value  = "v=spf1 -all"
}

resource "digitalocean_record" "seed" {
  for_each = toset(["db-1", "db-2"])
  domain   = digitalocean_domain.main.id
  type     = "A"
  name     = "seed-${each.key}.internal"
  value    = digitalocean_droplet.db[each.key].ipv4_address_private
  ttl      = 30
}

resource "digitalocean_reserved_ip" "monitoring" {
  region = local.region
}

resource "digitalocean_reserved_ip_assignment" "monitoring" {
  ip_address = digitalocean_reserved_ip.monitoring.ip_address
  droplet_id = digitalocean_droplet.monitoring.id
}

resource "digitalocean_project" "tidepool" {
  name        = "tidepool"
  description = "Tidepool production"
  purpose     = "Service or API"
  environment = "Production"
}

resource "digitalocean_project_resources" "tidepool" {
  project = digitalocean_project.tidepool.id
  resources = concat(
    [for each in digitalocean_droplet.db : each.urn],
    [for each in digitalocean_volume.db : each.urn],
    [
      digitalocean_droplet.monitoring.urn,
      digitalocean_droplet.autoscaler.urn,
      digitalocean_loadbalancer.api.urn,
      digitalocean_domain.main.urn,
      digitalocean_reserved_ip.monitoring.urn,
    ],
  )
}
