variable "name" {
  type        = string
  description = "What all names begin with."
}

variable "environment" {
  type        = string
  description = "Name of the environment."
}

variable "region" {
  type        = string
  description = "DigitalOcean's region."
}

variable "ip_range" {
  type        = string
  description = "Private range of the VPC."
}

variable "domain" {
  type        = string
  description = "DNS zone of the environment."
}

variable "create_domain" {
  type        = bool
  description = "Whether the zone is made here."
}

variable "pool" {
  type        = string
  description = "Name of the API's pool."
}

variable "ssh_public_key" {
  type        = string
  description = "Public key of deploy.sh."
}
