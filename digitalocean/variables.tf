# Each message says what is wrong and what to do. Nothing here is secret.

variable "environment" {
  type        = string
  description = "Name of the environment: dev, staging, prod, or one of your own. All names begin with it."

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{1,15}$", var.environment))
    error_message = "environment is part of names: 2 to 16 lower-case letters and digits, beginning with a letter. A dash would make it look like a part of another environment."
  }
}

variable "region" {
  type        = string
  description = "DigitalOcean's region, where everything is made."
  default     = "nyc3"

  validation {
    condition     = contains(local.regions, var.region)
    error_message = "There is no region ${var.region} with VPCs, volumes and load balancers. Choose one of: ${join(", ", local.regions)}."
  }
  validation {
    condition = alltrue([
      for file in values(local.manifest_files) : !fileexists(file) || jsondecode(fileexists(file) ? file(file) : "{\"region\":\"\"}").region == var.region
    ])
    error_message = "Images are in another region than ${var.region}. Make them there (PKR_VAR_digitalocean_region=${var.region} make images CLOUD=digitalocean), transfer them, or change region."
  }
}

variable "domain" {
  type        = string
  description = "DNS zone of this environment, its own: staging.example.com. Its parent must delegate it to DigitalOcean's name servers."

  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]$", var.domain)) && length(var.domain) <= 200
    error_message = "domain must be a DNS name of lower-case letters, digits and dashes with at least one dot and none at the end, such as staging.example.com."
  }
}

variable "create_domain" {
  type        = bool
  description = "Whether the zone is made here, and goes with the rest. false: it is in the account already."
  default     = true
}

variable "service_name" {
  type        = string
  description = "Name of the service in the zone: api makes https://api.<domain>."
  default     = "api"

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.service_name)) && var.service_name != "internal"
    error_message = "service_name is one label of a DNS name: lower-case letters, digits and dashes, not \"internal\", below which the parts have their names."
  }
}

variable "certificate_name" {
  type        = string
  description = "A certificate that is in the account already. Null: one of Let's Encrypt is made, and renewed by DigitalOcean."
  default     = null

  validation {
    condition     = var.certificate_name == null || can(regex("^[A-Za-z0-9._-]{1,128}$", var.certificate_name))
    error_message = "certificate_name must be the name of a certificate in the account (doctl compute certificate list), or null for one of Let's Encrypt."
  }
}

variable "certificate_serial" {
  type        = number
  description = "Raise it to have a new certificate of Let's Encrypt under a new name, before the old one goes."
  default     = 1

  validation {
    condition     = var.certificate_serial >= 1 && floor(var.certificate_serial) == var.certificate_serial
    error_message = "certificate_serial is a whole number from 1; raise it by one for a new certificate."
  }
}

variable "ip_range" {
  type        = string
  description = "Private range of the VPC."

  validation {
    condition     = can(cidrhost(var.ip_range, 0)) && can(regex("^(10\\.|172\\.(1[6-9]|2[0-9]|3[01])\\.|192\\.168\\.)", var.ip_range))
    error_message = "ip_range must be a private IPv4 range such as 10.20.0.0/20, within 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16."
  }
  validation {
    condition     = can(cidrhost(var.ip_range, 0)) && try(tonumber(split("/", var.ip_range)[1]), 0) >= 20 && try(tonumber(split("/", var.ip_range)[1]), 0) <= 26
    error_message = "ip_range must be a /20 to a /26: database hosts look for each other in the whole range, and a smaller one has no room for the pool."
  }
  validation {
    condition     = !can(cidrhost(var.ip_range, 0)) || try(cidrhost(var.ip_range, 0) == split("/", var.ip_range)[0], false)
    error_message = "ip_range ${var.ip_range} has bits beyond its prefix set. Write its first address: ${try(cidrhost(var.ip_range, 0), "?")}."
  }
  # Two ranges overlap if they are the same in the bits of the shorter prefix.
  validation {
    condition = !can(cidrhost(var.ip_range, 0)) || alltrue([
      for other in concat(local.ranges_of_provider, var.other_ranges) : !can(cidrhost(other, 0)) || try(
        cidrhost("${cidrhost(var.ip_range, 0)}/${min(split("/", var.ip_range)[1], split("/", other)[1])}", 0)
        != cidrhost("${cidrhost(other, 0)}/${min(split("/", var.ip_range)[1], split("/", other)[1])}", 0), false
      )
    ])
    error_message = "ip_range ${var.ip_range} overlaps with one of other_ranges (${join(", ", var.other_ranges)}) or with a range of DigitalOcean's own (${join(", ", local.ranges_of_provider)}). Choose another range."
  }
}

variable "other_ranges" {
  type        = list(string)
  description = "Ranges that the VPC must not overlap with: those of the other environments, offices, VPNs."
  default     = []

  validation {
    condition     = alltrue([for range in var.other_ranges : can(cidrhost(range, 0))])
    error_message = "other_ranges must be IPv4 ranges such as 10.30.0.0/20."
  }
}

variable "ssh_allowed_ranges" {
  type        = list(string)
  description = "From where ssh to the autoscaler's host is let in, by which one gets to the others."

  validation {
    condition     = length(var.ssh_allowed_ranges) > 0 && alltrue([for range in var.ssh_allowed_ranges : can(cidrhost(range, 0))])
    error_message = "ssh_allowed_ranges must name at least one range, such as [\"203.0.113.7/32\"]: your own address, from which deploy.sh brings the secrets."
  }
  validation {
    condition     = alltrue([for range in var.ssh_allowed_ranges : try(tonumber(split("/", range)[1]), 0) >= (strcontains(range, ":") ? 32 : 8)])
    error_message = "ssh_allowed_ranges must not be the whole internet: name your own addresses, /8 (IPv6: /32) or narrower."
  }
}

variable "clients_allowed" {
  type        = list(string)
  description = "Addresses and ranges that may use the load balancer; empty: everybody."
  default     = []

  validation {
    condition     = alltrue([for range in var.clients_allowed : can(cidrhost(range, 0))])
    error_message = "clients_allowed must be ranges such as [\"203.0.113.0/24\"], or empty for everybody."
  }
}

variable "clients_denied" {
  type        = list(string)
  description = "Ranges that the load balancer refuses."
  default     = []

  validation {
    condition     = alltrue([for range in var.clients_denied : can(cidrhost(range, 0))])
    error_message = "clients_denied must be ranges such as [\"198.51.100.0/24\"]."
  }
}

variable "ssh_public_key" {
  type        = string
  description = "Public half of the key that deploy.sh has made."

  validation {
    condition     = can(regex("^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp256) [A-Za-z0-9+/=]{60,}( .*)?\\s*$", var.ssh_public_key))
    error_message = "ssh_public_key must be a public key in OpenSSH's form, such as the file id_ed25519.pub; never the private half."
  }
}

variable "ssh_key_ids" {
  type        = list(string)
  description = "Further keys of the account, by id or fingerprint, that root on all hosts takes."
  default     = []

  validation {
    condition     = alltrue([for key in var.ssh_key_ids : can(regex("^([0-9]+|([0-9a-f]{2}:){15}[0-9a-f]{2})$", key))])
    error_message = "ssh_key_ids are ids or MD5 fingerprints of the account's keys: doctl compute ssh-key list."
  }
}

variable "manifests" {
  type        = string
  description = "Directory of the images' manifests, which packer/build writes."
  default     = "../packer/manifests/digitalocean"
}

variable "image_versions" {
  type        = map(string)
  description = "Version of an image by its name; one that is not named: the newest that was made."
  default     = {}

  validation {
    condition     = alltrue([for image in keys(var.image_versions) : contains(local.image_names, image)])
    error_message = "image_versions names an image that there is none of. The images are: ${join(", ", local.image_names)}."
  }
  validation {
    condition = alltrue([
      for image in local.image_names : fileexists(format("%s/%s%s.json", var.manifests, image, contains(keys(var.image_versions), image) ? "-${var.image_versions[image]}" : ""))
    ])
    error_message = format("There is no image in %s for: %s. Make it: make images CLOUD=digitalocean (CLOUD=local for the local cloud), or name a version that was made.", var.manifests, join(", ", [
      for image in local.image_names : image if !fileexists(format("%s/%s%s.json", var.manifests, image, contains(keys(var.image_versions), image) ? "-${var.image_versions[image]}" : ""))
    ]))
  }
}

variable "pool" {
  type        = string
  description = "Name of the API's pool. Its tags are pool:<name> and serving:<name>, which are the account's: each environment needs its own."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,41}$", var.pool))
    error_message = "pool must be 1 to 42 lower-case letters, digits and dashes, beginning with a letter."
  }
}

variable "pool_min" {
  type        = number
  description = "Fewest members of the pool."

  validation {
    condition     = var.pool_min >= 1 && floor(var.pool_min) == var.pool_min
    error_message = "pool_min must be a whole number of at least 1: without members nobody serves. Two survive the loss of one."
  }
}

variable "pool_max" {
  type        = number
  description = "Most members of the pool."

  validation {
    condition     = var.pool_max <= 100 && floor(var.pool_max) == var.pool_max
    error_message = "pool_max must be a whole number of at most 100, which is what a load balancer's tag may reach."
  }
  validation {
    condition     = var.pool_max >= var.pool_min
    error_message = "pool_max (${var.pool_max}) is below pool_min (${var.pool_min}). Raise it."
  }
}

variable "pool_size" {
  type        = string
  description = "Size of a member."
  default     = "s-1vcpu-1gb"

  validation {
    condition     = contains(keys(local.catalogue.sizes), var.pool_size)
    error_message = "pool_size ${var.pool_size} is not among the sizes of prices.json: ${join(", ", keys(local.catalogue.sizes))}. Choose one, or add its price there."
  }
}

variable "pool_cpu_target" {
  type        = number
  description = "CPU that a member is to have, from 0.05 to 0.95; the pool grows above it and shrinks below."
  default     = 0.6

  validation {
    condition     = var.pool_cpu_target >= 0.05 && var.pool_cpu_target <= 0.95
    error_message = "pool_cpu_target is a share of a processor from 0.05 to 0.95, such as 0.6."
  }
}

variable "pool_in_secs" {
  type        = number
  description = "For how long fewer members must have been enough before one goes."
  default     = 300

  validation {
    condition     = var.pool_in_secs >= 10 && var.pool_in_secs <= 86400
    error_message = "pool_in_secs is a number of seconds from 10 to 86400."
  }
}

variable "database_count" {
  type        = number
  description = "Hosts of the database."

  validation {
    condition     = contains([1, 3, 4, 5, 6, 7, 8, 9], var.database_count)
    error_message = "database_count must be 1 (no host may fail) or 3 to 9 (one may fail): with none there is nowhere to write, and with two the loss of either stops writes."
  }
}

variable "database_replication" {
  type        = number
  description = "Copies of each document."
  default     = 3

  validation {
    condition     = var.database_replication >= 1 && floor(var.database_replication) == var.database_replication
    error_message = "database_replication must be a whole number of at least 1; 3 survives the loss of one host."
  }
  validation {
    condition     = var.database_replication <= var.database_count
    error_message = "database_replication (${var.database_replication}) is more than database_count (${var.database_count}): there would be copies without a host. Lower the one or raise the other."
  }
}

variable "database_size" {
  type        = string
  description = "Size of a database host."
  default     = "s-2vcpu-4gb"

  validation {
    condition     = contains(keys(local.catalogue.sizes), var.database_size)
    error_message = "database_size ${var.database_size} is not among the sizes of prices.json: ${join(", ", keys(local.catalogue.sizes))}. Choose one, or add its price there."
  }
  validation {
    condition     = try(local.catalogue.sizes[var.database_size].memory_mb, 4096) >= 2048
    error_message = "database_size ${var.database_size} has less than 2 GB of memory, with which Cassandra does not run. Choose s-1vcpu-2gb or larger."
  }
}

variable "database_heap" {
  type        = string
  description = "Cassandra's heap; auto: a quarter of the memory."
  default     = "auto"

  validation {
    condition     = can(regex("^(auto|[1-9][0-9]{0,5}m)$", var.database_heap))
    error_message = "database_heap must be auto, or megabytes such as 1024m."
  }
}

variable "database_volume_gib" {
  type        = number
  description = "Size of each database host's volume."
  default     = 100

  validation {
    condition     = var.database_volume_gib >= 1 && var.database_volume_gib <= 16384 && floor(var.database_volume_gib) == var.database_volume_gib
    error_message = "database_volume_gib is a whole number from 1 to 16384. A volume can grow and never shrink."
  }
}

variable "monitoring_size" {
  type        = string
  description = "Size of the monitoring host."
  default     = "s-2vcpu-4gb"

  validation {
    condition     = contains(keys(local.catalogue.sizes), var.monitoring_size)
    error_message = "monitoring_size ${var.monitoring_size} is not among the sizes of prices.json: ${join(", ", keys(local.catalogue.sizes))}. Choose one, or add its price there."
  }
  validation {
    condition     = try(local.catalogue.sizes[var.monitoring_size].memory_mb, 4096) >= 2048
    error_message = "monitoring_size ${var.monitoring_size} has less than 2 GB of memory, with which Elasticsearch does not run. Choose s-1vcpu-2gb or larger."
  }
}

variable "monitoring_volume_gib" {
  type        = number
  description = "Size of the monitoring host's volume."
  default     = 50

  validation {
    condition     = var.monitoring_volume_gib >= 1 && var.monitoring_volume_gib <= 16384 && floor(var.monitoring_volume_gib) == var.monitoring_volume_gib
    error_message = "monitoring_volume_gib is a whole number from 1 to 16384. A volume can grow and never shrink."
  }
}

variable "monitoring_days" {
  type        = number
  description = "How long metrics are kept."
  default     = 7

  validation {
    condition     = var.monitoring_days >= 1 && var.monitoring_days <= 3650 && floor(var.monitoring_days) == var.monitoring_days
    error_message = "monitoring_days is a whole number from 1 to 3650."
  }
}

variable "autoscaler_size" {
  type        = string
  description = "Size of the autoscaler's host."
  default     = "s-1vcpu-1gb"

  validation {
    condition     = contains(keys(local.catalogue.sizes), var.autoscaler_size)
    error_message = "autoscaler_size ${var.autoscaler_size} is not among the sizes of prices.json: ${join(", ", keys(local.catalogue.sizes))}. Choose one, or add its price there."
  }
}

variable "load_balancer_units" {
  type        = number
  description = "Size of the load balancer; a unit takes 10,000 connections."
  default     = 1

  validation {
    condition     = var.load_balancer_units >= 1 && var.load_balancer_units <= 200 && floor(var.load_balancer_units) == var.load_balancer_units
    error_message = "load_balancer_units is a whole number from 1 to 200."
  }
}

variable "api_url" {
  type        = string
  description = "Where the autoscaler's host finds DigitalOcean's API; null: where it really is. For the local cloud."
  default     = null

  validation {
    condition     = var.api_url == null || can(regex("^https?://[^/]+$", var.api_url))
    error_message = "api_url must be http://HOST:PORT without a path, or null for DigitalOcean's own."
  }
}
