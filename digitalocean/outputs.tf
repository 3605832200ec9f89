# What deploy.sh configures by. No output is secret.

output "environment" {
  description = "Name of the environment."
  value       = var.environment
}

output "region" {
  description = "Where everything is."
  value       = var.region
}

output "service" {
  description = "Where clients find the service: its name, its URL, the load balancer's address."
  value = {
    name    = module.edge.service_name
    url     = "https://${module.edge.service_name}"
    address = module.edge.address
  }
}

output "hosts" {
  description = "Fixed hosts: what they are, where they are, and the volume of those that have one."
  value = merge(
    module.database.hosts,
    module.monitoring.hosts,
    module.autoscaler.hosts,
  )
}

output "names" {
  description = "Address by name, of each part, in full."
  value       = merge(module.database.names, module.monitoring.names, module.autoscaler.names)
}

output "database" {
  description = "The settings of the database's hosts, and of its clients."
  value = {
    cluster     = local.name
    founder     = module.database.founder
    count       = var.database_count
    replication = var.database_replication
    heap        = var.database_heap
    ip_range    = var.ip_range
    seeds       = module.database.seeds
    port        = local.ports.cassandra
    # Hosts name it after their region.
    datacenter = var.region
  }
}

output "monitoring" {
  description = "Where metrics go, and for how long they are kept."
  value = {
    url  = module.monitoring.elasticsearch_url
    days = var.monitoring_days
  }
}

output "pool" {
  description = "The API's pool, which is the autoscaler's."
  value = {
    name            = var.pool
    min             = var.pool_min
    max             = var.pool_max
    image           = local.images["api"].id
    public_port     = local.ports.public
    operations_port = local.ports.operations
  }
}

output "autoscaler_config" {
  description = "Configuration of the autoscaler."
  value       = module.autoscaler.config
}

output "images" {
  description = "Version and id of the image of each kind of host, as wanted now."
  value       = { for image, manifest in local.images : image => { version = manifest.version, id = tostring(manifest.id) } }
}

output "volumes" {
  description = "Volumes by name: what destroy keeps unless asked to remove it."
  value       = merge(module.database.volumes, module.monitoring.volumes)
}

output "monthly_usd" {
  description = "What a month costs, with the fewest and the most members of the pool, without traffic beyond what is included."
  value = {
    for what, members in { least = var.pool_min, most = var.pool_max } : what => (
      local.catalogue.sizes[var.database_size].monthly_usd * var.database_count
      + local.catalogue.sizes[var.monitoring_size].monthly_usd
      + local.catalogue.sizes[var.autoscaler_size].monthly_usd
      + local.catalogue.sizes[var.pool_size].monthly_usd * members
      + local.catalogue.load_balancer_unit_monthly_usd * var.load_balancer_units
      + local.catalogue.volume_gib_monthly_usd * (var.database_volume_gib * var.database_count + var.monitoring_volume_gib)
    )
  }
}
