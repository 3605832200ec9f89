output "hosts" {
  description = "The host by its name: id, role, addresses, volume."
  value = {
    monitoring = {
      role    = "monitoring"
      id      = digitalocean_droplet.host.id
      name    = digitalocean_droplet.host.name
      private = digitalocean_droplet.host.ipv4_address_private
      public  = digitalocean_droplet.host.ipv4_address
      volume  = digitalocean_volume.data.name
    }
  }
  depends_on = [digitalocean_volume_attachment.data]
}

output "names" {
  description = "Private address by full name."
  value       = { "monitoring.internal.${var.network.domain}" = digitalocean_record.host.value }
}

output "elasticsearch_url" {
  description = "Where metrics go and are read."
  value       = "http://monitoring.internal.${var.network.domain}:${var.ports["elasticsearch"]}"
}

output "volumes" {
  description = "Id of the volume by its name."
  value       = { (digitalocean_volume.data.name) = digitalocean_volume.data.id }
}

output "urns" {
  description = "What belongs into the project."
  value       = [digitalocean_droplet.host.urn, digitalocean_volume.data.urn]
}
