# Apache Cassandra, with Metricbeat beside it.

build {
  name = "db"

  source "digitalocean.image" {
    name          = "db"
    size          = "s-1vcpu-2gb"
    droplet_name  = "tidepool-builder-db-${var.build_id}"
    tags          = ["tidepool-builder", "tidepool-builder:db"]
    snapshot_name = "tidepool-db-${var.tidepool_version}"
    # The last one says that the image is whole.
    snapshot_tags = concat(local.snapshot_tags, ["tidepool-image:db", "tidepool-image"])
  }

  source "googlecompute.image" {
    name          = "db"
    machine_type  = "e2-standard-2"
    disk_size     = 20
    instance_name = "tidepool-builder-db-${var.build_id}"
    labels        = merge(local.builder_labels, { tidepool-image = "db" })
    image_name    = "tidepool-db-${local.version_name}"
    image_family  = "tidepool-db"
    image_labels  = merge(local.image_labels, { tidepool-image = "db" })
  }

  provisioner "shell" {
    script = "${path.root}/wait-for-cloud-init"
  }

  provisioner "shell-local" {
    script = "${path.root}/provision"
    environment_vars = concat(local.provision, [
      "TIDEPOOL_IMAGE=db",
      "BUILD_HOST=${build.Host}",
      "BUILD_PORT=${build.Port}",
      "BUILD_USER=${build.User}",
    ])
  }

  post-processor "manifest" {
    output = var.manifest
  }
}
