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
  dotfiles_repository = data.coder_parameter.dotfiles_repository.value
  keep_alive_hours    = tonumber(data.coder_parameter.keep_alive_hours.value)

  home = "/home/coder"
  # Not in the home volume: it tells about processes, which end with the container.
  state_dir          = "/tmp/coder-pilot"
  keep_alive_program = "${local.state_dir}/keep-alive.sh"
  claude_program     = "${local.state_dir}/claude.sh"
  code_server_port   = 13337
  secrets_dir        = "/run/coder-pilot/secrets"

  # Named after the repository and not after the workspace, so that a rename does not move it. A repository called
  # like a dot folder (".ssh") must not land on the real one, and a folder's name has at most 255 characters.
  project_dir = "${local.home}/${try(regex("^([A-Za-z0-9_][A-Za-z0-9_.-]{0,254}?)(?:[.]git)?/*$", regex("[^/:]*/*$", local.git_repository))[0], "project")}"

  labels = {
    "coder-pilot.stack"    = var.name_prefix
    "coder.owner"          = data.coder_workspace_owner.me.name
    "coder.owner_id"       = data.coder_workspace_owner.me.id
    "coder.workspace_id"   = data.coder_workspace.me.id
    "coder.workspace_name" = data.coder_workspace.me.name
  }
}

locals {
  # The address, and behind "#" the branch.
  git_source     = split("#", data.coder_parameter.git_repository.value)
  git_repository = local.git_source[0]
  git_branch     = try(local.git_source[1], "")

  # The provider says "default" for an empty one.
  git_name = contains(["", "default"], data.coder_workspace_owner.me.full_name) ? data.coder_workspace_owner.me.name : data.coder_workspace_owner.me.full_name

  # Past any proxy: the workspace itself, Coder, and the box by all its names.
  agent_host  = regex("^https?://(\\[[^]]+\\]|[^/:]+)", var.agent_url)[0]
  access_host = regex("^https?://(\\[[^]]+\\]|[^/:]+)", data.coder_workspace.me.access_url)[0]
  no_proxy = join(",", distinct([for host in compact([
    "localhost", "127.0.0.1", "::1", "host.docker.internal", local.agent_host, local.access_host,
    # On the tailnet also the first part alone.
    try(regex("^([A-Za-z][A-Za-z0-9-]*)[.]", local.access_host)[0], ""),
  ]) : trim(host, "[]")]))
  own_no_proxy = nonsensitive(join(",", compact([for name in ["no_proxy", "NO_PROXY"] : lookup(jsondecode(var.service_environment), name, "")])))

  # By dots, which none of the three has in it: with hyphens a-b's c and a's b-c would be called the same.
  container_name = lower("${var.name_prefix}.${data.coder_workspace_owner.me.name}.${data.coder_workspace.me.name}")
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

  entrypoint = ["bash", "-c", join("\n", [for name in ["tell.sh", "entrypoint.sh"] : file("${path.module}/scripts/${name}")]), "entrypoint"]
  # The entrypoint is process 1, also where the engine's default is an init of its own.
  init = false
  # The agent's own script would go to the access URL, which may be loopback on the host or need the tailnet's DNS.
  command = [replace(coder_agent.main.init_script, data.coder_workspace.me.access_url, var.agent_url)]

  env = [
    "CODER_AGENT_TOKEN=${coder_agent.main.token}",
    "CODER_AGENT_URL=${var.agent_url}",
    "HOME=${local.home}",
    # There is no Docker in a workspace; the dashboard would ask for its containers and be answered 500.
    "CODER_AGENT_DEVCONTAINERS_ENABLE=false",
    "CODER_PILOT_STATE_DIR=${local.state_dir}",
    "CODER_PILOT_WORKSPACE_TRUST=${var.workspace_trust}",
    "CODER_PILOT_SECRETS_DIR=${local.secrets_dir}",
    "CODER_PILOT_CODE_SERVER_PORT=${local.code_server_port}",
    "CODER_PILOT_PROJECT_DIR=${local.project_dir}",
    "CODER_PILOT_NO_PROXY=${local.no_proxy}",
    # Below a person's own `git config --global` and not above it, as GIT_AUTHOR_NAME and the like would be.
    "GIT_CONFIG_SYSTEM=${local.state_dir}/gitconfig",
    "CODER_PILOT_GIT_NAME=${local.git_name}",
    "CODER_PILOT_GIT_EMAIL=${data.coder_workspace_owner.me.email}",
    "CODER_PILOT_GIT_REPOSITORY=${local.git_repository}",
    "CODER_PILOT_GIT_BRANCH=${local.git_branch}",
    "CODER_PILOT_GIT_SHALLOW=${data.coder_parameter.git_shallow.value}",
    "CODER_PILOT_DOTFILES_REPOSITORY=${local.dotfiles_repository}",
    "CODER_PILOT_KEEP_ALIVE_CAP_S=${local.keep_alive_hours * 3600}",
    "CODER_PILOT_STOP_GRACE_S=${var.stop_grace_s}",
  ]

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
