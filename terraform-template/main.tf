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

data "coder_provisioner" "me" {}
data "coder_workspace" "me" {}
data "coder_workspace_owner" "me" {}

locals {
  images              = jsondecode(var.workspace_images)
  built_images        = jsondecode(var.built_images)
  image               = lookup(local.built_images, data.coder_parameter.image.value, data.coder_parameter.image.value)
  git_repository      = data.coder_parameter.git_repository.value
  dotfiles_repository = data.coder_parameter.dotfiles_repository.value
  keep_alive_hours    = tonumber(data.coder_parameter.keep_alive_hours.value)
  git_name            = coalesce(data.coder_workspace_owner.me.full_name, data.coder_workspace_owner.me.name)

  home = "/home/coder"
  # Not in the home volume: it tells about processes, which end with the container.
  state_dir          = "/tmp/coder-pilot"
  keep_alive_program = "${local.state_dir}/keep-alive.sh"
  claude_program     = "${local.state_dir}/claude.sh"
  code_server_port   = 13337

  # Named after the repository and not after the workspace, so that a rename does not move it. A repository called
  # like a dot folder (".ssh") must not land on the real one.
  project_dir = "${local.home}/${try(regex("^([A-Za-z0-9_][A-Za-z0-9_.-]*?)(?:[.]git)?/*$", regex("[^/:]*/*$", local.git_repository))[0], "project")}"

  labels = {
    "coder-pilot.stack"    = var.name_prefix
    "coder.owner"          = data.coder_workspace_owner.me.name
    "coder.owner_id"       = data.coder_workspace_owner.me.id
    "coder.workspace_id"   = data.coder_workspace.me.id
    "coder.workspace_name" = data.coder_workspace.me.name
  }
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
  name     = lower("${var.name_prefix}-${data.coder_workspace_owner.me.name}-${data.coder_workspace.me.name}")
  hostname = lower(data.coder_workspace.me.name)
  image    = local.image

  entrypoint = ["bash", "-c", file("${path.module}/scripts/entrypoint.sh"), "entrypoint"]
  # The agent's own script would go to the access URL, which may be loopback on the host or need the tailnet's DNS.
  command = [replace(coder_agent.main.init_script, data.coder_workspace.me.access_url, var.agent_url)]

  env = [
    "CODER_AGENT_TOKEN=${coder_agent.main.token}",
    "CODER_AGENT_URL=${var.agent_url}",
    "HOME=${local.home}",
    # There is no Docker in a workspace; the dashboard would ask for its containers and be answered 500.
    "CODER_AGENT_DEVCONTAINERS_ENABLE=false",
    "CODER_PILOT_STATE_DIR=${local.state_dir}",
    "CODER_PILOT_CODE_SERVER_PORT=${local.code_server_port}",
    "CODER_PILOT_PROJECT_DIR=${local.project_dir}",
    "CODER_PILOT_GIT_REPOSITORY=${local.git_repository}",
    "CODER_PILOT_DOTFILES_REPOSITORY=${local.dotfiles_repository}",
    "CODER_PILOT_KEEP_ALIVE_CAP_S=${local.keep_alive_hours * 3600}",
  ]

  network_mode = var.workspace_network

  # Ollama, LiteLLM, Phoenix and the like run on the host.
  host {
    host = "host.docker.internal"
    ip   = "host-gateway"
  }

  volumes {
    container_path = local.home
    volume_name    = docker_volume.home.name
  }

  memory = tonumber(data.coder_parameter.memory_mb.value)
  # Equal to `memory`: no swap, so a full workspace is ended by the kernel and does not grind the box down.
  memory_swap = tonumber(data.coder_parameter.memory_mb.value)
  cpus        = data.coder_parameter.cpus.value

  # The provider has no pids limit, so this bounds a fork bomb. The kernel counts the processes of a user id over all
  # containers, and root in the container (sudo) is exempt.
  ulimit {
    name = "nproc"
    soft = 8192
    hard = 8192
  }

  # No `no-new-privileges`: it would take away sudo, which the images give to their user on purpose.

  # A reboot of the host brings running workspaces back; Coder removes the container of a stopped one.
  restart               = "unless-stopped"
  destroy_grace_seconds = 10

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
