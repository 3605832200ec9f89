# Elasticsearch, and Kibana where it can be had.

build {
  name = "monitoring"

  source "digitalocean.image" {
    name          = "monitoring"
    size          = "s-1vcpu-2gb"
    droplet_name  = "tidepool-builder-monitoring-${var.build_id}"
    tags          = ["tidepool-builder", "tidepool-builder:monitoring"]
    snapshot_name = "tidepool-monitoring-${var.tidepool_version}"
    # The last one says that the image is whole.
    snapshot_tags = concat(local.snapshot_tags, ["tidepool-image:monitoring", "tidepool-image"])
  }

  source "googlecompute.image" {
    name          = "monitoring"
    machine_type  = "e2-standard-2"
    disk_size     = 20
    instance_name = "tidepool-builder-monitoring-${var.build_id}"
    labels        = merge(local.builder_labels, { tidepool-image = "monitoring" })
    image_name    = "tidepool-monitoring-${local.version_name}"
    image_family  = "tidepool-monitoring"
    image_labels  = merge(local.image_labels, { tidepool-image = "monitoring" })
  }

  provisioner "shell" {
    script = "${path.root}/wait-for-cloud-init"
  }

  provisioner "shell-local" {
    script = "${path.root}/provision"
    environment_vars = concat(local.provision, [
      "TIDEPOOL_IMAGE=monitoring",
      "BUILD_HOST=${build.Host}",
      "BUILD_PORT=${build.Port}",
      "BUILD_USER=${build.User}",
    ])
  }

  post-processor "manifest" {
    output = var.manifest
  }
}
