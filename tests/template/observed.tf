# Laid beside the template in tests alone: a test run sees of an earlier run only its outputs.
output "home_volume_id" {
  value = docker_volume.home.id
}
