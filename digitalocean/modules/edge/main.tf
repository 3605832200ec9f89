# Where clients come in: the load balancer with its certificate, the service's name, and the firewall of the pool's members, which are
# found by their tags alone.

locals {
  fqdn = "${var.service_name}.${var.network.domain}"
}

resource "digitalocean_certificate" "service" {
  count = var.certificate_name == null ? 1 : 0

  # All that it depends on is in its name, so that the next one can be there before this one goes.
  name    = "${var.name}-${substr(sha1(local.fqdn), 0, 8)}-${var.certificate_serial}"
  type    = "lets_encrypt"
  domains = [local.fqdn]

  lifecycle {
    create_before_destroy = true
  }
}

resource "digitalocean_loadbalancer" "service" {
  name                             = var.name
  region                           = var.region
  vpc_uuid                         = var.network.vpc_id
  project_id                       = var.network.project_id
  size_unit                        = var.load_balancer_units
  droplet_tag                      = var.network.tags["serving"]
  redirect_http_to_https           = true
  disable_lets_encrypt_dns_records = true
  http_idle_timeout_seconds        = 60

  forwarding_rule {
    entry_protocol   = "https"
    entry_port       = 443
    target_protocol  = "http"
    target_port      = var.ports["public"]
    certificate_name = var.certificate_name == null ? one(digitalocean_certificate.service[*].name) : var.certificate_name
  }
  # For the redirect alone.
  forwarding_rule {
    entry_protocol  = "http"
    entry_port      = 80
    target_protocol = "http"
    target_port     = var.ports["public"]
  }

  healthcheck {
    protocol                 = "http"
    port                     = var.ports["operations"]
    path                     = "/readyz"
    check_interval_seconds   = 5
    response_timeout_seconds = 4
    healthy_threshold        = 2
    unhealthy_threshold      = 2
  }

  dynamic "firewall" {
    for_each = length(var.clients_allowed) + length(var.clients_denied) > 0 ? [1] : []

    content {
      allow = [for range in var.clients_allowed : "cidr:${range}"]
      deny  = [for range in var.clients_denied : "cidr:${range}"]
    }
  }
}

resource "digitalocean_record" "service" {
  domain = var.network.domain
  type   = "A"
  name   = var.service_name
  value  = digitalocean_loadbalancer.service.ip
  ttl    = 60
}

resource "digitalocean_firewall" "members" {
  name = "${var.name}-members"
  tags = [var.network.tags["members"]]

  # Clients come by the balancer, and by nothing else.
  inbound_rule {
    protocol                  = "tcp"
    port_range                = tostring(var.ports["public"])
    source_load_balancer_uids = [digitalocean_loadbalancer.service.id]
  }
  # Health checks, and the autoscaler, which asks for readiness and for draining.
  inbound_rule {
    protocol                  = "tcp"
    port_range                = tostring(var.ports["operations"])
    source_addresses          = [var.network.ip_range]
    source_load_balancer_uids = [digitalocean_loadbalancer.service.id]
  }
  inbound_rule {
    protocol    = "tcp"
    port_range  = tostring(var.ports["ssh"])
    source_tags = [var.network.tags["autoscaler"]]
  }
  inbound_rule {
    protocol         = "icmp"
    source_addresses = [var.network.ip_range]
  }

  # Debian's mirrors, for security updates.
  outbound_rule {
    protocol              = "tcp"
    port_range            = "80"
    destination_addresses = var.network.anywhere
  }
  outbound_rule {
    protocol              = "tcp"
    port_range            = "443"
    destination_addresses = var.network.anywhere
  }

  dynamic "outbound_rule" {
    for_each = var.network.outbound

    content {
      protocol              = outbound_rule.value.protocol
      port_range            = outbound_rule.value.ports
      destination_addresses = outbound_rule.value.to
    }
  }
}
