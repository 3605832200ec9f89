# What DigitalOcean offers, as far as variables are checked against it. Prices are data, with their source.
locals {
  catalogue = jsondecode(file("${path.module}/prices.json"))

  # Regions with VPCs, volumes, firewalls and load balancers: https://docs.digitalocean.com/platform/regional-availability/
  regions = ["ams3", "atl1", "blr1", "fra1", "lon1", "nyc1", "nyc2", "nyc3", "sfo2", "sfo3", "sgp1", "syd1", "tor1"]

  # Ranges that DigitalOcean takes for itself: https://docs.digitalocean.com/products/networking/vpc/details/limits/
  ranges_of_provider = ["10.244.0.0/16", "10.245.0.0/16", "10.246.0.0/24", "10.229.0.0/16"]

  # The image that each kind of host is made of, and where its manifest is.
  image_names = ["api", "db", "monitoring", "autoscaler"]
  manifest_files = {
    for image in local.image_names : image =>
    format("%s/%s%s.json", var.manifests, image, contains(keys(var.image_versions), image) ? "-${var.image_versions[image]}" : "")
  }
}
