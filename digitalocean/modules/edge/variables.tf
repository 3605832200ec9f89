variable "name" {
  type        = string
  description = "What all names begin with."
}

variable "region" {
  type        = string
  description = "DigitalOcean's region."
}

variable "network" {
  type = object({
    vpc_id     = string
    ip_range   = string
    domain     = string
    project_id = string
    tags       = map(string)
    anywhere   = list(string)
    outbound = list(object({
      protocol = string
      ports    = optional(string)
      to       = list(string)
    }))
  })
  description = "Outputs of the module network."
}

variable "ports" {
  type        = map(number)
  description = "Ports by what they are for."
}

variable "service_name" {
  type        = string
  description = "Name of the service in the zone."
}

variable "certificate_name" {
  type        = string
  description = "A certificate that is there already; null: one of Let's Encrypt is made."
}

variable "certificate_serial" {
  type        = number
  description = "Number in the name of the one that is made."
}

variable "clients_allowed" {
  type        = list(string)
  description = "Ranges that may use the balancer; empty: everybody."
}

variable "clients_denied" {
  type        = list(string)
  description = "Ranges that it refuses."
}

variable "load_balancer_units" {
  type        = number
  description = "Size of the balancer."
}
