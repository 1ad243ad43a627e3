# What a workspace is made of. Docker is mocked; the coder provider is the real one (it needs no server).

mock_provider "docker" {}

variables {
  name_prefix         = "pilot"
  workspace_network   = "pilot-workspaces"
  agent_url           = "http://coder:7080"
  workspace_images    = "[\"image-a\", \"image-b\"]"
  service_environment = "{\"OLLAMA_HOST\": \"http://host.docker.internal:11434\"}"
}

override_data {
  target = data.coder_workspace.me
  values = {
    id          = "0b4c1d4e-0000-4000-8000-000000000001"
    name        = "Alpha"
    start_count = 1
    access_url  = "http://127.0.0.1:7080"
  }
}

override_data {
  target = data.coder_workspace_owner.me
  values = {
    id        = "0b4c1d4e-0000-4000-8000-000000000002"
    name      = "Ann"
    full_name = ""
    email     = "ann@example.com"
  }
}

override_data {
  target = data.coder_provisioner.me
  values = { arch = "amd64", os = "linux" }
}

run "a_started_workspace_is_one_container" {
  assert {
    condition     = length(docker_container.workspace) == 1
    error_message = "A started workspace must have exactly one container."
  }
  assert {
    condition     = docker_container.workspace[0].name == "pilot-ann-alpha"
    error_message = "The container's name must be prefix, owner and workspace in lower case."
  }
  assert {
    condition     = docker_container.workspace[0].image == "image-a"
    error_message = "The first image of the list must be the default."
  }
  assert {
    condition     = docker_container.workspace[0].network_mode == "pilot-workspaces"
    error_message = "The container must be on the workspaces' network and on no other."
  }
  assert {
    condition     = one(docker_container.workspace[0].host).host == "host.docker.internal"
    error_message = "The sibling services on the host must be reachable."
  }
  assert {
    condition     = docker_container.workspace[0].restart == "unless-stopped"
    error_message = "A reboot of the host must bring the workspace back."
  }
}

run "an_image_that_was_built_on_the_chosen_one_is_used" {
  variables {
    built_images = "{\"image-a\": \"localhost/pilot-workspace:a\"}"
  }
  assert {
    condition     = docker_container.workspace[0].image == "localhost/pilot-workspace:a"
    error_message = "The container must start from the image that has the editor in it."
  }
  assert {
    condition     = [for option in data.coder_parameter.image.option : option.value] == ["image-a", "image-b"]
    error_message = "A person must see the images by their own names."
  }
}

run "the_editor_s_script_can_install_what_an_image_lacks" {
  assert {
    condition     = coder_script.code_server.script == "${file("scripts/parts.sh")}\n${file("scripts/code-server.sh")}"
    error_message = "The functions that install a part must come before the script that uses them."
  }
}

run "the_agent_is_not_asked_for_dev_containers" {
  assert {
    condition     = contains(docker_container.workspace[0].env, "CODER_AGENT_DEVCONTAINERS_ENABLE=false")
    error_message = "There is no Docker in a workspace: each look of the dashboard would be answered 500."
  }
}

run "the_agent_goes_to_the_internal_url" {
  assert {
    condition     = strcontains(docker_container.workspace[0].command[0], "BINARY_URL=http://coder:7080/bin/coder-linux-amd64")
    error_message = "The init script must fetch the agent from agent_url."
  }
  assert {
    condition     = !strcontains(docker_container.workspace[0].command[0], "127.0.0.1")
    error_message = "Nothing of the access URL may be left in the init script."
  }
  assert {
    condition     = contains(docker_container.workspace[0].env, "CODER_AGENT_URL=http://coder:7080")
    error_message = "CODER_AGENT_URL must be set for the scripts."
  }
}

run "everything_carries_the_labels_that_find_orphans" {
  assert {
    condition = { for entry in docker_container.workspace[0].labels : entry.label => entry.value } == {
      "coder-pilot.stack"    = "pilot"
      "coder.owner"          = "Ann"
      "coder.owner_id"       = "0b4c1d4e-0000-4000-8000-000000000002"
      "coder.workspace_id"   = "0b4c1d4e-0000-4000-8000-000000000001"
      "coder.workspace_name" = "Alpha"
    }
    error_message = "The container lacks a label."
  }
  assert {
    condition     = toset(docker_volume.home.labels) == toset(docker_container.workspace[0].labels)
    error_message = "The home volume must carry the same labels as the container."
  }
}

run "the_container_has_limits" {
  variables {
    memory_default_mb = 2048
    cpus_default      = 3
  }
  assert {
    condition     = docker_container.workspace[0].memory == 2048 && docker_container.workspace[0].memory_swap == 2048
    error_message = "Memory must be limited, and swap must not stretch it."
  }
  assert {
    condition     = docker_container.workspace[0].cpus == "3"
    error_message = "CPUs must be limited."
  }
  assert {
    condition     = [for limit in docker_container.workspace[0].ulimit : limit.hard if limit.name == "nproc"][0] == 8192
    error_message = "The number of processes must be limited."
  }
  assert {
    condition     = docker_container.workspace[0].log_opts["max-size"] == "10m"
    error_message = "The container's log must rotate."
  }
}

run "code_server_is_the_owners_alone" {
  assert {
    condition     = coder_app.code_server.share == "owner" && !coder_app.code_server.subdomain
    error_message = "Only the owner may open the editor, through the path proxy."
  }
  assert {
    condition     = endswith(coder_app.code_server.url, "/?folder=/home/coder/project")
    error_message = "Without a repository the blank project's folder must open."
  }
}

run "where_apps_have_names_of_their_own_nothing_of_a_port_is_on_the_editor_s" {
  variables {
    apps_domain = "coder.example.com"
  }
  assert {
    condition     = coder_app.code_server.subdomain
    error_message = "The editor must have an origin of its own."
  }
  assert {
    condition     = coder_agent.main.env["CS_DISABLE_PROXY"] == "true" && !contains(keys(coder_agent.main.env), "CODER_PILOT_EDITOR_PATH")
    error_message = "The editor must not serve ports on its own origin."
  }
  assert {
    condition     = coder_agent.main.env["__VITE_ADDITIONAL_SERVER_ALLOWED_HOSTS"] == ".coder.example.com" && coder_agent.main.env["RAILS_DEVELOPMENT_HOSTS"] == ".coder.example.com"
    error_message = "Dev servers must know every name below the domain."
  }
}

run "a_port_is_no_part_of_the_host_that_dev_servers_are_told" {
  variables {
    apps_domain = "localhost:7080"
  }
  assert {
    condition     = coder_agent.main.env["__VITE_ADDITIONAL_SERVER_ALLOWED_HOSTS"] == ".localhost"
    error_message = "A host has no port."
  }
}

run "where_apps_are_paths_the_editor_knows_its_own_and_dev_servers_coder_s_host" {
  override_data {
    target = data.coder_workspace.me
    values = {
      id          = "0b4c1d4e-0000-4000-8000-000000000001"
      name        = "Alpha"
      start_count = 1
      access_url  = "https://box.example.ts.net:8443"
    }
  }
  assert {
    condition     = !coder_app.code_server.subdomain
    error_message = "A name that has none below it has path apps alone."
  }
  assert {
    condition     = coder_agent.main.env["CODER_PILOT_EDITOR_PATH"] == "/@Ann/Alpha.main/apps/code-server" && !contains(keys(coder_agent.main.env), "CS_DISABLE_PROXY")
    error_message = "code-server must know where its ports are."
  }
  assert {
    condition     = coder_agent.main.env["__VITE_ADDITIONAL_SERVER_ALLOWED_HOSTS"] == "box.example.ts.net"
    error_message = "Dev servers must know Coder's own host."
  }
}

run "without_repositories_nothing_is_cloned" {
  assert {
    condition     = length(coder_script.clone) == 0 && length(coder_script.dotfiles) == 0
    error_message = "Without repositories there must be no script for them."
  }
}

run "a_repository_is_cloned_and_opened" {
  override_data {
    target = data.coder_parameter.git_repository
    values = { value = "https://example.com/group/my.project.git" }
  }
  assert {
    condition     = length(coder_script.clone) == 1
    error_message = "A repository must be cloned."
  }
  assert {
    condition     = endswith(coder_app.code_server.url, "/?folder=/home/coder/my.project")
    error_message = "The editor must open the clone."
  }
  assert {
    condition     = contains(docker_container.workspace[0].env, "CODER_PILOT_GIT_REPOSITORY=https://example.com/group/my.project.git")
    error_message = "The script must learn the repository from the environment."
  }
}

run "a_repository_in_ssh_form_gives_the_same_folder" {
  override_data {
    target = data.coder_parameter.git_repository
    values = { value = "git@example.com:my.project.git" }
  }
  assert {
    condition     = coder_agent.main.dir == "/home/coder/my.project"
    error_message = "user@host:path must give the last part of the path as the folder."
  }
}

run "a_repository_named_like_a_dot_folder_stays_off_it" {
  override_data {
    target = data.coder_parameter.git_repository
    values = { value = "https://example.com/me/.ssh" }
  }
  assert {
    condition     = coder_agent.main.dir == "/home/coder/project"
    error_message = "A repository called .ssh must not be cloned over the real ~/.ssh."
  }
}

run "dotfiles_are_applied_when_asked_for" {
  override_data {
    target = data.coder_parameter.dotfiles_repository
    values = { value = "https://example.com/me/dotfiles" }
  }
  assert {
    condition     = length(coder_script.dotfiles) == 1
    error_message = "Dotfiles must have their script."
  }
}

run "the_keep_alive_watches_with_its_cap_and_hooks" {
  variables {
    keep_alive_max_hours = 5
  }
  assert {
    condition     = strcontains(coder_script.keep_alive[0].script, "\n${file("scripts/keep-alive.sh")}\nKEEP_ALIVE\n")
    error_message = "The watcher must be laid and started."
  }
  assert {
    condition     = contains(docker_container.workspace[0].env, "CODER_PILOT_KEEP_ALIVE_CAP_S=18000")
    error_message = "The watcher must know the cap, in seconds."
  }
  assert {
    condition     = contains([for upload in docker_container.workspace[0].upload : upload.file], "/etc/claude-code/managed-settings.d/50-coder-pilot.json")
    error_message = "Claude Code must find the hooks."
  }
}

run "keep_alive_can_be_switched_off" {
  variables {
    keep_alive_max_hours = 0
  }
  assert {
    condition     = length(coder_script.keep_alive) == 0
    error_message = "Without keep-alive there must be no watcher."
  }
  assert {
    condition     = !contains([for upload in docker_container.workspace[0].upload : upload.file], "/etc/claude-code/managed-settings.d/50-coder-pilot.json")
    error_message = "Without keep-alive Claude Code must have no hooks of ours."
  }
}

run "no_sign_in_is_set_by_default" {
  assert {
    condition     = length(coder_env.anthropic_api_key) == 0 && !contains(keys(coder_agent.main.env), "ANTHROPIC_BASE_URL")
    error_message = "By default the extension's own sign-in must be in charge."
  }
  assert {
    condition     = coder_agent.main.env["OLLAMA_HOST"] == "http://host.docker.internal:11434"
    error_message = "The service environment must reach the workspace."
  }
}

run "an_api_key_and_a_base_url_are_passed_on" {
  variables {
    anthropic_api_key  = "sk-test"
    anthropic_base_url = "http://host.docker.internal:4000"
  }
  assert {
    condition     = coder_env.anthropic_api_key[0].name == "ANTHROPIC_API_KEY" && coder_env.anthropic_api_key[0].value == "sk-test"
    error_message = "The key must reach the workspace."
  }
  assert {
    condition     = coder_agent.main.env["ANTHROPIC_BASE_URL"] == "http://host.docker.internal:4000"
    error_message = "The base URL must reach the workspace."
  }
}
