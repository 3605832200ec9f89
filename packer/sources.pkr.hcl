# The machines on which images are made. What differs from image to image stands in its own file.

source "digitalocean" "image" {
  image                    = var.digitalocean_image
  region                   = var.digitalocean_region
  user_data_file           = var.digitalocean_user_data_file
  droplet_agent            = false
  state_timeout            = var.state_timeout
  snapshot_timeout         = var.snapshot_timeout
  ssh_username             = "root"
  ssh_private_key_file     = var.ssh_private_key_file
  ssh_file_transfer_method = "sftp"
  ssh_timeout              = var.state_timeout
}

source "googlecompute" "image" {
  project_id               = var.google_project
  zone                     = var.google_zone
  source_image_family      = var.google_image_family
  source_image_project_id  = [var.google_image_project]
  access_token             = var.google_access_token
  custom_endpoints         = var.google_endpoint == "" ? {} : { compute = var.google_endpoint }
  disk_type                = "pd-balanced"
  state_timeout            = var.state_timeout
  use_os_login             = false
  ssh_username             = "packer"
  ssh_private_key_file     = var.ssh_private_key_file
  ssh_file_transfer_method = "sftp"
  ssh_timeout              = var.state_timeout
  metadata = {
    block-project-ssh-keys = "TRUE"
    ssh-keys               = "packer:${var.ssh_public_key}"
  }
}
