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

variable "image" {
  type        = string
  description = "Id of the image. A new one does not replace a host that is there."
}

variable "size" {
  type        = string
  description = "Size of a host."
}

variable "ssh_keys" {
  type        = list(string)
  description = "Keys that root takes, by id or fingerprint."
}

variable "user_data" {
  type        = string
  description = "User data; nothing of it is secret."
}

variable "volume_gib" {
  type        = number
  description = "Size of a volume."
}

variable "public_networking" {
  type        = bool
  description = "Whether hosts have a public address."
}

variable "replicas" {
  type        = number
  description = "How many hosts."
}
