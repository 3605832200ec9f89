# What packer/build passes. The tokens come from the environment: the plugin of DigitalOcean reads DIGITALOCEAN_TOKEN and
# DIGITALOCEAN_API_URL itself, that of Google GOOGLE_APPLICATION_CREDENTIALS.

variable "tidepool_version" {
  type        = string
  description = "Version of the image, and of the packages in it."

  validation {
    condition     = can(regex("^[0-9][0-9A-Za-z.+~]*$", var.tidepool_version))
    error_message = "A version is a digit, then letters, digits, dots, + and ~."
  }
}

variable "tidepool_commit" {
  type        = string
  description = "The commit that the image is made from, in full."
}

variable "tidepool_packages_dir" {
  type        = string
  description = "Directory of the Debian packages of our own programs."
  default     = "target/packages"
}

variable "build_id" {
  type        = string
  description = "Name of this run, by which what it has made is found again: lower-case letters and digits."
  default     = "none"
}

variable "work_dir" {
  type        = string
  description = "Directory of this run: its key, and where ssh keeps its sockets. Nobody else may read it."
}

variable "ssh_private_key_file" {
  type        = string
  description = "Key of this run alone, whose public half stands beside it in a file ending in .pub."
}

variable "ssh_public_key" {
  type        = string
  description = "Its public half."
}

variable "manifest" {
  type        = string
  description = "File into which Packer notes what it has made."
}

variable "extra_vars" {
  type        = string
  description = "File of further variables for the playbook, in JSON or YAML; empty for none."
  default     = ""
}

variable "state_timeout" {
  type        = string
  description = "How long a machine may take to become active, or off."
  default     = "6m"
}

variable "snapshot_timeout" {
  type        = string
  description = "How long a snapshot may take. The plugin doesn't notice one that has failed, and waits as long."
  default     = "20m"
}

variable "digitalocean_region" {
  type    = string
  default = "nyc3"
}

variable "digitalocean_image" {
  type        = string
  description = "Slug of the system that the image is made on."
  default     = "debian-12-x64"
}

variable "digitalocean_user_data_file" {
  type        = string
  description = "File with user data for the machine on which the image is made; empty for none. Nothing of it is in the image."
  default     = ""
}

variable "google_project" {
  type    = string
  default = ""
}

variable "google_zone" {
  type    = string
  default = "us-central1-a"
}

variable "google_image_family" {
  type        = string
  description = "Family of the system that the image is made on, of the project google_image_project."
  default     = "debian-12"
}

variable "google_image_project" {
  type    = string
  default = "debian-cloud"
}

variable "google_access_token" {
  type        = string
  description = "Token to use instead of the application's default credentials."
  default     = ""
  sensitive   = true
}

variable "google_endpoint" {
  type        = string
  description = "Another endpoint than Google's own, http://HOST:PORT/compute/v1/ for instance."
  default     = ""
}

locals {
  # Tags of DigitalOcean, and labels and names of Google, take fewer characters than a version has.
  version_name = lower(regex_replace(var.tidepool_version, "[^0-9A-Za-z]", "-"))

  snapshot_tags = ["tidepool-version:${local.version_name}", "tidepool-commit:${var.tidepool_commit}"]

  builder_labels = { tidepool-builder = "yes", tidepool-build = var.build_id }
  image_labels   = { tidepool-version = local.version_name, tidepool-commit = var.tidepool_commit }

  provision = [
    "TIDEPOOL_VERSION=${var.tidepool_version}",
    "TIDEPOOL_COMMIT=${var.tidepool_commit}",
    "TIDEPOOL_PACKAGES_DIR=${var.tidepool_packages_dir}",
    "TIDEPOOL_EXTRA_VARS=${var.extra_vars}",
    "BUILD_DIR=${var.work_dir}",
    "BUILD_KEY=${var.ssh_private_key_file}",
  ]
}
