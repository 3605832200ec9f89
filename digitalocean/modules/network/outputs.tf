output "vpc_id" {
  description = "The VPC."
  value       = digitalocean_vpc.main.id
}

output "ip_range" {
  description = "Its private range."
  value       = digitalocean_vpc.main.ip_range
}

output "domain" {
  description = "The zone, once it is there."
  value       = var.create_domain ? one(digitalocean_domain.main[*].name) : var.domain
}

output "ssh_key_id" {
  description = "Key of deploy.sh in the account."
  value       = digitalocean_ssh_key.deploy.id
}

output "project_id" {
  description = "The project."
  value       = digitalocean_project.main.id
}

output "tags" {
  description = "Tags by what they are for: database, monitoring, autoscaler, members, serving."
  value       = { for what, tag in digitalocean_tag.all : what => tag.name }
}

output "outbound" {
  description = "What a firewall lets every host ask."
  value       = local.outbound
}

output "anywhere" {
  description = "Every address."
  value       = local.anywhere
}

output "urns" {
  description = "What belongs into the project."
  value       = digitalocean_domain.main[*].urn
}
