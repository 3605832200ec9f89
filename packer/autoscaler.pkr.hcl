# tidepool-autoscaler, with Metricbeat beside it.

build {
  name = "autoscaler"

  source "digitalocean.image" {
    name          = "autoscaler"
    size          = "s-1vcpu-1gb"
    droplet_name  = "tidepool-builder-autoscaler-${var.build_id}"
    tags          = ["tidepool-builder", "tidepool-builder:autoscaler"]
    snapshot_name = "tidepool-autoscaler-${var.tidepool_version}"
    # The last one says that the image is whole.
    snapshot_tags = concat(local.snapshot_tags, ["tidepool-image:autoscaler", "tidepool-image"])
  }

  source "googlecompute.image" {
    name          = "autoscaler"
    machine_type  = "e2-small"
    disk_size     = 20
    instance_name = "tidepool-builder-autoscaler-${var.build_id}"
    labels        = merge(local.builder_labels, { tidepool-image = "autoscaler" })
    image_name    = "tidepool-autoscaler-${local.version_name}"
    image_family  = "tidepool-autoscaler"
    image_labels  = merge(local.image_labels, { tidepool-image = "autoscaler" })
  }

  provisioner "shell" {
    script = "${path.root}/wait-for-cloud-init"
  }

  provisioner "shell-local" {
    script = "${path.root}/provision"
    environment_vars = concat(local.provision, [
      "TIDEPOOL_IMAGE=autoscaler",
      "BUILD_HOST=${build.Host}",
      "BUILD_PORT=${build.Port}",
      "BUILD_USER=${build.User}",
    ])
  }

  post-processor "manifest" {
    output = var.manifest
  }
}
