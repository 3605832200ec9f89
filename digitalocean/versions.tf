terraform {
  # Terraform 1.11 or later, or OpenTofu 1.10 or later: validations that look at several variables.
  required_version = ">= 1.10.0"

  # deploy.sh says where: one file for each environment, outside the repository. For a team, replace it by a shared backend (README.md).
  backend "local" {}

  required_providers {
    digitalocean = {
      source  = "digitalocean/digitalocean"
      version = "~> 2.40"
    }
  }
}
