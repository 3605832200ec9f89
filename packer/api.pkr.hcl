# tidepool-api, with Metricbeat beside it.

build {
  name = "api"

  source "digitalocean.image" {
    name          = "api"
    size          = "s-1vcpu-1gb"
    droplet_name  = "tidepool-builder-api-${var.build_id}"
    tags          = ["tidepool-builder", "tidepool-builder:api"]
    snapshot_name = "tidepool-api-${var.tidepool_version}"
    # The last one says that the image is whole.
    snapshot_tags = concat(local.snapshot_tags, ["tidepool-image:api", "tidepool-image"])
  }

  source "googlecompute.image" {
    name          = "api"
    machine_type  = "e2-small"
    disk_size     = 20
    instance_name = "tidepool-builder-api-${var.build_id}"
    labels        = merge(local.builder_labels, { tidepool-image = "api" })
    image_name    = "tidepool-api-${local.version_name}"
    image_family  = "tidepool-api"
    image_labels  = merge(local.image_labels, { tidepool-image = "api" })
  }

  provisioner "shell" {
    script = "${path.root}/wait-for-cloud-init"
  }

  provisioner "shell-local" {
    script = "${path.root}/provision"
    environment_vars = concat(local.provision, [
      "TIDEPOOL_IMAGE=api",
      "BUILD_HOST=${build.Host}",
      "BUILD_PORT=${build.Port}",
      "BUILD_USER=${build.User}",
    ])
  }

  post-processor "manifest" {
    output = var.manifest
  }
}
