# The agent in the workspace, what it runs at the start, and what the dashboard shows.

resource "coder_agent" "main" {
  arch = data.coder_provisioner.me.arch
  os   = "linux"
  dir  = local.project_dir

  env = merge(
    var.timezone == "" ? {} : { TZ = var.timezone },
    local.apps_environment,
    nonsensitive(jsondecode(var.service_environment)),
    # The agent puts in what entrypoint.sh made of its own: programs read the one or the other.
    local.own_no_proxy == "" ? {} : { for name in ["no_proxy", "NO_PROXY"] : name => "${local.own_no_proxy},$no_proxy" },
    var.anthropic_base_url == "" ? {} : { ANTHROPIC_BASE_URL = var.anthropic_base_url },
  )

  metadata {
    display_name = "Claude"
    key          = "0_claude"
    script       = "cat ${local.state_dir}/status 2>/dev/null || echo 'not watched'"
    interval     = 15
    timeout      = 2
  }

  metadata {
    display_name = "CPU"
    key          = "1_cpu"
    script       = "coder stat cpu"
    interval     = 15
    timeout      = 5
  }

  metadata {
    display_name = "Memory"
    key          = "2_memory"
    script       = "coder stat mem"
    interval     = 15
    timeout      = 5
  }

  # Of the machine: when it is short, the keeper stops who is idle.
  metadata {
    display_name = "Host memory"
    key          = "3_host_memory"
    script       = "coder stat mem --host"
    interval     = 30
    timeout      = 5
  }

  metadata {
    display_name = "Home disk"
    key          = "4_home_disk"
    script       = <<-SCRIPT
      df -Pk ${local.home} | { read -r _; read -r _ _ _ free_kb _; [ "$free_kb" -ge 16384 ] || printf 'full: '; }
      coder stat disk --path ${local.home}
    SCRIPT
    interval     = 120
    timeout      = 5
  }
}

resource "coder_app" "code_server" {
  agent_id     = coder_agent.main.id
  slug         = "code-server"
  display_name = "code-server"
  icon         = "/icon/code.svg"
  url          = "http://127.0.0.1:${local.code_server_port}/?folder=${local.project_dir}"
  share        = "owner"
  # On an origin of its own where Coder's address has names below it: a page on Coder's own has a part in its sessions.
  subdomain = var.apps_domain != ""
  # In the same tab, not in a small window without an address, which is the default.
  open_in = "tab"
  order   = 1

  healthcheck {
    url       = "http://127.0.0.1:${local.code_server_port}/healthz"
    interval  = 3
    threshold = 20
  }
}

resource "coder_app" "claude" {
  count        = local.claude_tile ? 1 : 0
  agent_id     = coder_agent.main.id
  slug         = "claude"
  display_name = "Claude"
  icon         = "/icon/claude.svg"
  command      = local.claude_program
  share        = "owner"
  open_in      = "tab"
  order        = 2
}

# Each in a script of its own: they run side by side, so nothing delays the editor, and each has its own part of the
# agent's log.
resource "coder_script" "code_server" {
  agent_id     = coder_agent.main.id
  display_name = "code-server"
  icon         = "/icon/code.svg"
  # parts.sh comes from workspace-image/: the image's build installs by the same lines.
  script       = join("\n", [for name in ["tell.sh", "parts.sh", "code-server.sh"] : file("${path.module}/scripts/${name}")])
  run_on_start = true
}

resource "coder_script" "clone" {
  count        = local.git_repository == "" ? 0 : 1
  agent_id     = coder_agent.main.id
  display_name = "Git repository"
  icon         = "/icon/git.svg"
  script       = file("${path.module}/scripts/clone.sh")
  run_on_start = true
}

resource "coder_script" "dotfiles" {
  count        = local.dotfiles_repository == "" ? 0 : 1
  agent_id     = coder_agent.main.id
  display_name = "Dotfiles"
  icon         = "/icon/dotfiles.svg"
  script       = file("${path.module}/scripts/dotfiles.sh")
  run_on_start = true
}

resource "coder_script" "claude" {
  agent_id     = coder_agent.main.id
  display_name = "Claude"
  icon         = "/icon/claude.svg"
  script       = <<-SCRIPT
    #!/usr/bin/env bash
    mkdir -p ${local.state_dir}
    cat >${local.claude_program} <<'CLAUDE'
    ${file("${path.module}/scripts/claude.sh")}
    CLAUDE
    chmod 0755 ${local.claude_program}
    ${local.claude_program} check
  SCRIPT
  run_on_start = true
}

resource "coder_script" "keep_alive" {
  count        = local.keep_alive_hours == 0 ? 0 : 1
  agent_id     = coder_agent.main.id
  display_name = "Keep-alive"
  icon         = "/emojis/23f3.png"
  # In the background with its output in a file: the agent counts as starting until its scripts end.
  script       = <<-SCRIPT
    #!/usr/bin/env bash
    mkdir -p ${local.state_dir}
    cat >${local.keep_alive_program} <<'KEEP_ALIVE'
    #!/usr/bin/env bash
    ${join("\n", [for name in ["tell.sh", "keep-alive.sh"] : file("${path.module}/scripts/${name}")])}
    KEEP_ALIVE
    chmod 0755 ${local.keep_alive_program}
    setsid ${local.keep_alive_program} watch </dev/null >>${local.state_dir}/keep-alive.log 2>&1 &
  SCRIPT
  run_on_start = true
}
