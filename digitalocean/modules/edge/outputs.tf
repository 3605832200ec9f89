output "service_name" {
  description = "Full name of the service."
  value       = digitalocean_record.service.fqdn
}

output "address" {
  description = "The load balancer's address."
  value       = digitalocean_loadbalancer.service.ip
}
