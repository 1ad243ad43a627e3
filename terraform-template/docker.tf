# A workspace on Docker: its home is a volume, and it runs in a container.

terraform {
  required_providers {
    coder = {
      source  = "coder/coder"
      version = "2.20.0"
    }
    docker = {
      source  = "kreuzwerker/docker"
      version = "4.6.0"
    }
  }
}

provider "docker" {
  host = "unix://${var.docker_socket}"
}

variable "docker_socket" {
  description = "Path of the Docker socket as Coder's container sees it."
  type        = string
  default     = "/var/run/docker.sock"

  validation {
    condition     = startswith(var.docker_socket, "/")
    error_message = "docker_socket must be an absolute path, such as /var/run/docker.sock."
  }
}

variable "workspace_network" {
  description = "Docker network of the workspaces. Coder is on it under the host name in agent_url; Postgres is not."
  type        = string

  validation {
    condition     = var.workspace_network != ""
    error_message = "workspace_network must name a Docker network."
  }
}

variable "pids_limit" {
  description = "The most processes and threads that a workspace may have."
  type        = number
  default     = 8192

  validation {
    condition     = var.pids_limit >= 512 && floor(var.pids_limit) == var.pids_limit
    error_message = "pids_limit must be a whole number of at least 512: an editor with its extensions takes some hundreds."
  }
}

variable "secrets_directory" {
  description = "Folder on the Docker host with the file `environment`, which every workspace reads at its start: secrets are in no variable."
  type        = string

  validation {
    condition     = startswith(var.secrets_directory, "/")
    error_message = "secrets_directory must be an absolute path."
  }
}

locals {
  # By dots, which none of the three has in it: with hyphens a-b's c and a's b-c would be called the same.
  container_name = lower("${var.name_prefix}.${data.coder_workspace_owner.me.name}.${data.coder_workspace.me.name}")

  # What an image has is not known when this is planned, but `up` builds images with all that the tile needs.
  claude_tile = contains(values(local.built_images), local.image)
}

# Outlives every stop, update and rename: no count, a name that never changes, and no attribute whose change could
# replace it. The label with the workspace's name therefore keeps the name at creation.
resource "docker_volume" "home" {
  name = "coder-${data.coder_workspace.me.id}-home"

  dynamic "labels" {
    for_each = local.labels
    content {
      label = labels.key
      value = labels.value
    }
  }

  lifecycle {
    ignore_changes = all
  }
}

resource "docker_container" "workspace" {
  count    = data.coder_workspace.me.start_count
  name     = local.container_name
  hostname = lower(data.coder_workspace.me.name)
  image    = local.image

  entrypoint = ["bash", "-c", local.entrypoint, "entrypoint"]
  # The entrypoint is process 1, also where the engine's default is an init of its own.
  init    = false
  command = [local.init_script]

  env = [for name, value in local.environment : "${name}=${value}"]

  network_mode = var.workspace_network

  # Workspaces share a network: with raw sockets one could answer for Coder, and read the others' tokens (ARP).
  capabilities {
    drop = ["CAP_NET_RAW", "CAP_MKNOD"]
  }

  # Ollama, LiteLLM, Phoenix and the like run on the host.
  host {
    host = "host.docker.internal"
    ip   = "host-gateway"
  }

  volumes {
    container_path = local.home
    volume_name    = docker_volume.home.name
  }

  # A folder, not the file: a file that is replaced on the host stays the old one in a container.
  volumes {
    host_path      = var.secrets_directory
    container_path = local.secrets_dir
    read_only      = true
  }

  memory = tonumber(data.coder_parameter.memory_mb.value)
  # Equal to `memory`: no swap, so a full workspace is ended by the kernel and does not grind the box down.
  memory_swap = tonumber(data.coder_parameter.memory_mb.value)
  cpus        = data.coder_parameter.cpus.value

  # Of browsers and databases; what is in it counts for `memory`.
  shm_size = var.shm_mb

  # Bounds a fork bomb. The provider has no argument for it, and the ulimit nproc counts a user id over all containers and
  # the host. The container keeps it over its restarts.
  provisioner "local-exec" {
    command = <<-COMMAND
      curl --silent --show-error --fail --output /dev/null --max-time 30 --noproxy '*' --unix-socket "$SOCKET" \
        --header 'Content-Type: application/json' --data "{\"PidsLimit\": $LIMIT}" "http://docker/containers/$CONTAINER/update"
    COMMAND
    environment = {
      SOCKET    = var.docker_socket
      LIMIT     = var.pids_limit
      CONTAINER = self.id
    }
  }

  # No `no-new-privileges`: it would take away sudo, which the images give to their user on purpose.

  # A reboot of the host brings running workspaces back; Coder removes the container of a stopped one.
  restart = "unless-stopped"
  # Coder's stop, and that of `docker stop` and of the engine's own end: what the entrypoint waits for, and then the agent.
  destroy_grace_seconds = var.stop_grace_s + 10
  stop_timeout          = var.stop_grace_s + 10

  log_driver = "json-file"
  log_opts = {
    "max-size" = "10m"
    "max-file" = "3"
  }

  dynamic "labels" {
    for_each = local.labels
    content {
      label = labels.key
      value = labels.value
    }
  }
}
