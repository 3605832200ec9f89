output "hosts" {
  description = "Hosts by name: id, role, addresses, volume."
  value = {
    for name, host in digitalocean_droplet.host : name => {
      role    = "db"
      id      = host.id
      name    = host.name
      private = host.ipv4_address_private
      public  = host.ipv4_address
      volume  = digitalocean_volume.data[name].name
    }
  }
  # A host without its volume is not to be configured.
  depends_on = [digitalocean_volume_attachment.data]
}

output "names" {
  description = "Private address by full name."
  value = merge(
    { for name, record in digitalocean_record.host : "${name}.internal.${var.network.domain}" => record.value },
    { for name, record in digitalocean_record.seed : "${name}.internal.${var.network.domain}" => record.value },
  )
}

output "seeds" {
  description = "Names by which clients find the ring."
  value       = [for name in keys(local.seeds) : "${name}.internal.${var.network.domain}"]
}

output "founder" {
  description = "Name of the host that founds the ring."
  value       = "${var.name}-db-1"
}

output "volumes" {
  description = "Id of each volume by its name."
  value       = { for volume in digitalocean_volume.data : volume.name => volume.id }
}

output "urns" {
  description = "What belongs into the project."
  value       = concat([for host in digitalocean_droplet.host : host.urn], [for volume in digitalocean_volume.data : volume.urn])
}
