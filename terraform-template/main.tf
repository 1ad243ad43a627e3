# What a workspace is, whatever engine it is on; docker.tf has the rest.

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
}

locals {
  environment = {
    CODER_AGENT_TOKEN = coder_agent.main.token
    CODER_AGENT_URL   = var.agent_url
    HOME              = local.home
    # There is no Docker in a workspace; the dashboard would ask for its containers and be answered 500.
    CODER_AGENT_DEVCONTAINERS_ENABLE = "false"
    CODER_PILOT_STATE_DIR            = local.state_dir
    CODER_PILOT_WORKSPACE_TRUST      = var.workspace_trust
    CODER_PILOT_SECRETS_DIR          = local.secrets_dir
    CODER_PILOT_CODE_SERVER_PORT     = local.code_server_port
    CODER_PILOT_PROJECT_DIR          = local.project_dir
    CODER_PILOT_NO_PROXY             = local.no_proxy
    # Below a person's own `git config --global` and not above it, as GIT_AUTHOR_NAME and the like would be.
    GIT_CONFIG_SYSTEM               = "${local.state_dir}/gitconfig"
    CODER_PILOT_GIT_NAME            = local.git_name
    CODER_PILOT_GIT_EMAIL           = data.coder_workspace_owner.me.email
    CODER_PILOT_GIT_REPOSITORY      = local.git_repository
    CODER_PILOT_GIT_BRANCH          = local.git_branch
    CODER_PILOT_GIT_SHALLOW         = data.coder_parameter.git_shallow.value
    CODER_PILOT_DOTFILES_REPOSITORY = local.dotfiles_repository
    CODER_PILOT_KEEP_ALIVE_CAP_S    = local.keep_alive_hours * 3600
    CODER_PILOT_STOP_GRACE_S        = var.stop_grace_s
  }

  entrypoint = join("\n", [for name in ["tell.sh", "entrypoint.sh"] : file("${path.module}/scripts/${name}")])
  # The agent's own script would go to the access URL, which may be loopback on the host or need the tailnet's DNS.
  init_script = replace(coder_agent.main.init_script, data.coder_workspace.me.access_url, var.agent_url)
}
