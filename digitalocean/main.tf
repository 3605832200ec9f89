# The whole service but the API's pool: that belongs to the autoscaler, whose configuration is an output of this.
# DIGITALOCEAN_TOKEN, and for another endpoint DIGITALOCEAN_API_URL, come from the environment.
provider "digitalocean" {}

locals {
  name = "tidepool-${var.environment}"
  # One that is missing was refused by then; this only keeps the same fault from being told twice.
  images = { for image, path in local.manifest_files : image => jsondecode(fileexists(path) ? file(path) : "{\"id\":\"0\",\"version\":\"\"}") }

  # One place for the ports that firewalls, health checks and settings must agree about (docs/digitalocean.md has the table).
  ports = {
    public        = 8080
    operations    = 9090
    cassandra     = 9042
    gossip        = 7000
    members       = 7010
    elasticsearch = 9200
    ssh           = 22
  }

  # What every host is told at its creation; nothing of it is secret. Names of hosts that have no way out are in their own hosts file.
  user_data = "#cloud-config\nmanage_etc_hosts: false\n"
}

module "network" {
  source = "./modules/network"

  name           = local.name
  environment    = var.environment
  region         = var.region
  ip_range       = var.ip_range
  domain         = var.domain
  create_domain  = var.create_domain
  pool           = var.pool
  ssh_public_key = var.ssh_public_key
}

module "database" {
  source = "./modules/database"

  name              = local.name
  region            = var.region
  network           = module.network
  image             = local.images["db"].id
  size              = var.database_size
  replicas          = var.database_count
  volume_gib        = var.database_volume_gib
  ssh_keys          = concat([module.network.ssh_key_id], var.ssh_key_ids)
  user_data         = local.user_data
  ports             = local.ports
  public_networking = false
}

module "monitoring" {
  source = "./modules/monitoring"

  name              = local.name
  region            = var.region
  network           = module.network
  image             = local.images["monitoring"].id
  size              = var.monitoring_size
  volume_gib        = var.monitoring_volume_gib
  ssh_keys          = concat([module.network.ssh_key_id], var.ssh_key_ids)
  user_data         = local.user_data
  ports             = local.ports
  public_networking = false
}

module "edge" {
  source = "./modules/edge"

  name                = local.name
  region              = var.region
  network             = module.network
  service_name        = var.service_name
  certificate_name    = var.certificate_name
  certificate_serial  = var.certificate_serial
  clients_allowed     = var.clients_allowed
  clients_denied      = var.clients_denied
  load_balancer_units = var.load_balancer_units
  ports               = local.ports
}

module "autoscaler" {
  source = "./modules/autoscaler"

  name               = local.name
  region             = var.region
  network            = module.network
  image              = local.images["autoscaler"].id
  size               = var.autoscaler_size
  ssh_keys           = concat([module.network.ssh_key_id], var.ssh_key_ids)
  ssh_allowed_ranges = var.ssh_allowed_ranges
  user_data          = local.user_data
  ports              = local.ports
  elasticsearch_url  = module.monitoring.elasticsearch_url
  api_url            = var.api_url
  pool = {
    name       = var.pool
    min        = var.pool_min
    max        = var.pool_max
    image      = local.images["api"].id
    size       = var.pool_size
    cpu_target = var.pool_cpu_target
    in_secs    = var.pool_in_secs
  }
}

# What is made here; the pool's members, which the autoscaler makes, are in the account's default project.
resource "digitalocean_project_resources" "all" {
  project = module.network.project_id
  resources = concat(
    module.database.urns,
    module.monitoring.urns,
    module.autoscaler.urns,
    module.network.urns,
  )
}
