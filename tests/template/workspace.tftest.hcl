# What a workspace is made of. Docker is mocked; the coder provider is the real one (it needs no server).

mock_provider "docker" {}

variables {
  name_prefix         = "pilot"
  workspace_network   = "pilot-workspaces"
  agent_url           = "http://coder:7080"
  secrets_directory   = "/srv/secrets"
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
    condition     = docker_container.workspace[0].name == "pilot.ann.alpha"
    error_message = "The container's name must be prefix, owner and workspace in lower case, apart by what is in none of them."
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
    condition     = coder_script.code_server.script == "${file("scripts/tell.sh")}\n${file("scripts/parts.sh")}\n${file("scripts/code-server.sh")}"
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
    condition     = docker_container.workspace[0].shm_size == 1024
    error_message = "Browsers and databases need more than the 64 MiB of shared memory that Docker gives."
  }
  assert {
    condition     = length(docker_container.workspace[0].ulimit) == 0
    error_message = "The ulimit nproc counts the processes of all workspaces and of the host's own user."
  }
  assert {
    condition     = docker_container.workspace[0].log_opts["max-size"] == "10m"
    error_message = "The container's log must rotate."
  }
}

run "a_stop_leaves_the_entrypoint_and_then_the_agent_their_time" {
  variables {
    stop_grace_s = 30
  }
  assert {
    condition     = contains(docker_container.workspace[0].env, "CODER_PILOT_STOP_GRACE_S=30")
    error_message = "The entrypoint must know how long it may wait."
  }
  assert {
    condition     = docker_container.workspace[0].destroy_grace_seconds == 40 && docker_container.workspace[0].stop_timeout == 40
    error_message = "Docker must kill nothing before that, whoever stops the container."
  }
  assert {
    condition     = docker_container.workspace[0].init == false
    error_message = "The entrypoint must be process 1."
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

run "a_branch_stands_behind_the_repository" {
  override_data {
    target = data.coder_parameter.git_repository
    values = { value = "https://example.com/group/my.project.git#feature/one" }
  }
  assert {
    condition     = coder_agent.main.dir == "/home/coder/my.project"
    error_message = "The branch must not be in the folder's name."
  }
  assert {
    condition     = contains(docker_container.workspace[0].env, "CODER_PILOT_GIT_REPOSITORY=https://example.com/group/my.project.git")
    error_message = "The branch must not be in the address."
  }
  assert {
    condition     = contains(docker_container.workspace[0].env, "CODER_PILOT_GIT_BRANCH=feature/one")
    error_message = "The script must learn the branch."
  }
}

run "a_repository_whose_name_is_too_long_for_a_folder" {
  override_data {
    target = data.coder_parameter.git_repository
    values = { value = "https://example.com/group/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" }
  }
  assert {
    condition     = coder_agent.main.dir == "/home/coder/project"
    error_message = "A folder's name has at most 255 characters."
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

run "the_keep_alive_watches_with_its_cap" {
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
}

run "claude_has_a_tile_where_up_built_the_image" {
  variables {
    built_images = "{\"image-a\": \"localhost/pilot-workspace:a\"}"
  }
  assert {
    condition     = coder_app.claude[0].command == "/tmp/coder-pilot/claude.sh"
    error_message = "The tile must open the terminal."
  }
  assert {
    condition     = strcontains(coder_script.claude.script, "\n${file("scripts/claude.sh")}\nCLAUDE\n") && strcontains(coder_script.claude.script, "\n/tmp/coder-pilot/claude.sh check\n")
    error_message = "What the tile opens must be laid, and say what it lacks."
  }
}

run "claude_has_no_tile_where_nobody_knows_what_is_in_the_image" {
  variables {
    built_images = "{\"image-b\": \"localhost/pilot-workspace:b\"}"
  }
  assert {
    condition     = length(coder_app.claude) == 0
    error_message = "A tile must not promise what the image may lack."
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
}

run "commits_carry_the_owner_and_a_person_can_change_that" {
  override_data {
    target = data.coder_workspace_owner.me
    values = {
      id        = "0b4c1d4e-0000-4000-8000-000000000002"
      name      = "ann"
      full_name = "Ann Lee"
      email     = "ann@example.com"
    }
  }
  assert {
    condition     = length(setintersection(["CODER_PILOT_GIT_NAME=Ann Lee", "CODER_PILOT_GIT_EMAIL=ann@example.com"], docker_container.workspace[0].env)) == 2
    error_message = "The entry point must learn whose workspace it is."
  }
  assert {
    condition     = length([for name in keys(coder_agent.main.env) : name if startswith(name, "GIT_")]) == 0
    error_message = "Git's variables would win over a person's own configuration."
  }
}

run "an_owner_without_a_full_name_commits_under_the_username" {
  override_data {
    target = data.coder_workspace_owner.me
    values = {
      id   = "0b4c1d4e-0000-4000-8000-000000000002"
      name = "ann"
      # As the provider says it.
      full_name = "default"
      email     = "ann@example.com"
    }
  }
  assert {
    condition     = contains(docker_container.workspace[0].env, "CODER_PILOT_GIT_NAME=ann")
    error_message = "Nobody is called default."
  }
}

run "what_is_here_goes_past_a_proxy" {
  override_data {
    target = data.coder_workspace.me
    values = {
      id          = "0b4c1d4e-0000-4000-8000-000000000001"
      name        = "Alpha"
      start_count = 1
      access_url  = "https://framework.tail1234.ts.net"
    }
  }
  variables {
    service_environment = "{\"https_proxy\": \"http://proxy.corp:3128\", \"NO_PROXY\": \".corp\"}"
  }
  assert {
    condition     = contains(docker_container.workspace[0].env, "CODER_PILOT_NO_PROXY=localhost,127.0.0.1,::1,host.docker.internal,coder,framework.tail1234.ts.net,framework")
    error_message = "The workspace, Coder and the box must be reached without a proxy."
  }
  assert {
    condition     = coder_agent.main.env["no_proxy"] == ".corp,$no_proxy" && coder_agent.main.env["NO_PROXY"] == ".corp,$no_proxy"
    error_message = "The owner's own exceptions must stand beside ours."
  }
  assert {
    condition     = coder_agent.main.env["https_proxy"] == "http://proxy.corp:3128"
    error_message = "The proxy must reach the workspace."
  }
}

run "no_sign_in_is_set_by_default" {
  assert {
    condition     = !contains(keys(coder_agent.main.env), "ANTHROPIC_BASE_URL")
    error_message = "By default the extension's own sign-in must be in charge."
  }
  assert {
    condition     = !contains(keys(coder_agent.main.env), "no_proxy") && coder_agent.main.env["OLLAMA_HOST"] == "http://host.docker.internal:11434"
    error_message = "The service environment must reach the workspace."
  }
}

run "the_image_s_own_time_zone_counts_by_default" {
  assert {
    condition     = !contains(keys(coder_agent.main.env), "TZ")
    error_message = "Without a time zone of ours TZ must not be set."
  }
}

run "a_time_zone_reaches_the_workspace" {
  variables {
    timezone = "America/Argentina/Buenos_Aires"
  }
  assert {
    condition     = coder_agent.main.env["TZ"] == "America/Argentina/Buenos_Aires"
    error_message = "The time zone must reach the workspace."
  }
}

run "a_service_variable_wins_over_the_time_zone" {
  variables {
    timezone            = "Europe/Berlin"
    service_environment = "{\"TZ\": \"Asia/Tokyo\"}"
  }
  assert {
    condition     = coder_agent.main.env["TZ"] == "Asia/Tokyo"
    error_message = "What the owner sets by name must win."
  }
}

run "secrets_are_read_from_a_folder_that_no_workspace_can_write" {
  assert {
    condition     = [for each in docker_container.workspace[0].volumes : each if each.host_path == "/srv/secrets"][0].read_only
    error_message = "The folder of the secrets must be mounted read-only."
  }
}

run "a_base_url_is_passed_on" {
  variables {
    anthropic_base_url = "http://host.docker.internal:4000"
  }
  assert {
    condition     = coder_agent.main.env["ANTHROPIC_BASE_URL"] == "http://host.docker.internal:4000"
    error_message = "The base URL must reach the workspace."
  }
}
