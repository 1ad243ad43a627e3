# The home volume outlives what a workspace goes through; the container does not. The runs share one state, in order.

mock_provider "docker" {}

variables {
  workspace_network = "pilot-workspaces"
  agent_url         = "http://coder:7080"
  secrets_directory = "/srv/secrets"
  workspace_images  = "[\"image-a\", \"image-b\"]"
}

run "first_start" {
  override_data {
    target = data.coder_workspace.me
    values = {
      id          = "0b4c1d4e-0000-4000-8000-000000000001"
      name        = "alpha"
      start_count = 1
      access_url  = "http://127.0.0.1:7080"
    }
  }
  assert {
    condition     = docker_volume.home.name == "coder-0b4c1d4e-0000-4000-8000-000000000001-home"
    error_message = "The volume must be named after the workspace's id."
  }
}

run "a_stop_removes_the_container_and_keeps_the_home" {
  override_data {
    target = data.coder_workspace.me
    values = {
      id          = "0b4c1d4e-0000-4000-8000-000000000001"
      name        = "alpha"
      start_count = 0
      access_url  = "http://127.0.0.1:7080"
    }
  }
  assert {
    condition     = length(docker_container.workspace) == 0
    error_message = "A stopped workspace must have no container."
  }
  assert {
    condition     = docker_volume.home.name == "coder-0b4c1d4e-0000-4000-8000-000000000001-home"
    error_message = "A stop must keep the home volume."
  }
}

run "a_rename_keeps_the_home" {
  override_data {
    target = data.coder_workspace.me
    values = {
      id          = "0b4c1d4e-0000-4000-8000-000000000001"
      name        = "omega"
      start_count = 1
      access_url  = "http://127.0.0.1:7080"
    }
  }
  assert {
    condition     = endswith(docker_container.workspace[0].name, ".omega")
    error_message = "The container must follow the new name."
  }
  assert {
    condition     = docker_volume.home.name == "coder-0b4c1d4e-0000-4000-8000-000000000001-home"
    error_message = "The volume must stay named after the workspace's id."
  }
  assert {
    # Docker cannot change a volume's labels, so a new value here would mean a new volume.
    condition     = { for entry in docker_volume.home.labels : entry.label => entry.value }["coder.workspace_name"] == "alpha"
    error_message = "A rename must not touch the home volume."
  }
}

run "an_update_keeps_the_home" {
  override_data {
    target = data.coder_workspace.me
    values = {
      id          = "0b4c1d4e-0000-4000-8000-000000000001"
      name        = "alpha"
      start_count = 1
      access_url  = "http://127.0.0.1:7080"
    }
  }
  variables {
    name_prefix      = "other"
    workspace_images = "[\"image-c\"]"
  }
  assert {
    condition     = docker_container.workspace[0].image == "image-c"
    error_message = "The container must follow the template."
  }
  assert {
    # Docker cannot change a volume's labels, so a new value here would mean a new volume.
    condition     = { for entry in docker_volume.home.labels : entry.label => entry.value }["coder-pilot.stack"] == "coder"
    error_message = "A template update must not touch the home volume."
  }
}
