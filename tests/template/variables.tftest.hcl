# Every bad variable is refused, by its own validation.

mock_provider "docker" {}

variables {
  workspace_network = "pilot-workspaces"
  agent_url         = "http://coder:7080"
  secrets_directory = "/srv/secrets"
  workspace_images  = "[\"image-a\"]"
}

run "a_prefix_that_docker_refuses" {
  command = plan
  variables {
    name_prefix = "Pilot!"
  }
  expect_failures = [var.name_prefix]
}

run "a_relative_socket" {
  command = plan
  variables {
    docker_socket = "docker.sock"
  }
  expect_failures = [var.docker_socket]
}

run "no_network" {
  command = plan
  variables {
    workspace_network = ""
  }
  expect_failures = [var.workspace_network]
}

run "an_agent_url_with_a_path" {
  command = plan
  variables {
    agent_url = "http://coder:7080/path"
  }
  expect_failures = [var.agent_url]
}

run "an_agent_url_without_a_scheme" {
  command = plan
  variables {
    agent_url = "coder:7080"
  }
  expect_failures = [var.agent_url]
}

run "an_apps_domain_with_a_scheme" {
  command = plan
  variables {
    apps_domain = "http://localhost:7080"
  }
  expect_failures = [var.apps_domain]
}

run "no_image" {
  command = plan
  variables {
    workspace_images = "[]"
  }
  expect_failures = [var.workspace_images]
}

run "images_that_are_no_json" {
  command = plan
  variables {
    workspace_images = "image-a"
  }
  expect_failures = [var.workspace_images]
}

run "an_image_name_with_a_space" {
  command = plan
  variables {
    workspace_images = "[\"image a\"]"
  }
  expect_failures = [var.workspace_images]
}

run "built_images_that_are_a_list" {
  command = plan
  variables {
    built_images = "[\"image-a\"]"
  }
  expect_failures = [var.built_images]
}

run "too_little_memory" {
  command = plan
  variables {
    memory_default_mb = 511
  }
  expect_failures = [var.memory_default_mb]
}

run "a_fraction_of_memory" {
  command = plan
  variables {
    memory_default_mb = 1024.5
  }
  expect_failures = [var.memory_default_mb]
}

run "a_memory_cap_below_the_default" {
  command = plan
  variables {
    memory_cap_mb = 4095
  }
  expect_failures = [var.memory_cap_mb]
}

run "no_cpu" {
  command = plan
  variables {
    cpus_default = 0
  }
  expect_failures = [var.cpus_default]
}

run "a_cpu_cap_below_the_default" {
  command = plan
  variables {
    cpus_cap = 1
  }
  expect_failures = [var.cpus_cap]
}

run "a_negative_keep_alive" {
  command = plan
  variables {
    keep_alive_max_hours = -1
  }
  expect_failures = [var.keep_alive_max_hours]
}

run "a_fraction_of_an_hour" {
  command = plan
  variables {
    keep_alive_max_hours = 1.5
  }
  expect_failures = [var.keep_alive_max_hours]
}

run "a_time_zone_that_is_none" {
  command = plan
  variables {
    timezone = "$HOME"
  }
  expect_failures = [var.timezone]
}

run "a_service_environment_that_is_a_list" {
  command = plan
  variables {
    service_environment = "[\"A\"]"
  }
  expect_failures = [var.service_environment]
}

run "a_service_variable_with_a_bad_name" {
  command = plan
  variables {
    service_environment = "{\"A-B\": \"c\"}"
  }
  expect_failures = [var.service_environment]
}

run "a_service_variable_that_the_agent_would_expand" {
  command = plan
  variables {
    service_environment = "{\"A\": \"$HOME\"}"
  }
  expect_failures = [var.service_environment]
}

run "a_relative_folder_of_secrets" {
  command = plan
  variables {
    secrets_directory = "secrets"
  }
  expect_failures = [var.secrets_directory]
}

run "a_base_url_without_a_scheme" {
  command = plan
  variables {
    anthropic_base_url = "localhost:4000"
  }
  expect_failures = [var.anthropic_base_url]
}

run "too_small_a_shared_memory" {
  command = plan
  variables {
    shm_mb = 32
  }
  expect_failures = [var.shm_mb]
}

run "a_limit_of_processes_that_no_editor_lives_with" {
  command = plan
  variables {
    pids_limit = 100
  }
  expect_failures = [var.pids_limit]
}

run "a_stop_that_waits_for_minutes" {
  command = plan
  variables {
    stop_grace_s = 61
  }
  expect_failures = [var.stop_grace_s]
}
