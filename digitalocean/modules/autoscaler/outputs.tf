output "hosts" {
  description = "The host by its name: id, role, addresses."
  value = {
    autoscaler = {
      role    = "autoscaler"
      id      = digitalocean_droplet.host.id
      name    = digitalocean_droplet.host.name
      private = digitalocean_droplet.host.ipv4_address_private
      public  = digitalocean_droplet.host.ipv4_address
      volume  = null
    }
  }
}

output "names" {
  description = "Private address by full name."
  value       = { "autoscaler.internal.${var.network.domain}" = digitalocean_record.host.value }
}

output "config" {
  description = "Configuration of the autoscaler, without any secret."
  value       = local.config
}

output "urns" {
  description = "What belongs into the project."
  value       = [digitalocean_droplet.host.urn]
}
