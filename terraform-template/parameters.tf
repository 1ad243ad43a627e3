# What the owner of a workspace chooses. All of it can be changed later: it takes effect at the next start, and
# nothing in the home volume is touched.

locals {
  # No password or token: Coder keeps parameters in plain text. Some hosts hand out https://user@host/…; what is longer than
  # a user's name is a token. No option of git and no shell either.
  address_pattern = join("", [
    "((https?|git|ssh)://([A-Za-z0-9][A-Za-z0-9._+-]{0,24}@)?[^\\s@/?$#]{1,255}(/[^\\s?$#]{0,1000})?",
    "|[A-Za-z0-9][A-Za-z0-9._+-]{0,63}@[A-Za-z0-9.-]{1,253}:[^\\s@?$#]{1,1000})",
  ])
  repository_error = join(" ", [
    "Give an https://, ssh://, git:// or user@host:path address, or leave it empty. It may have a user name of up to",
    "25 characters and no password or token, and at most 1000 characters behind the host.",
  ])
}

data "coder_parameter" "git_repository" {
  name         = "git_repository"
  display_name = "Git repository"
  description  = "Cloned into the home folder at the first start and opened in the editor. `#name` at its end chooses a branch or tag. Empty for a blank project."
  icon         = "/icon/git.svg"
  type         = "string"
  default      = ""
  mutable      = true
  order        = 1

  validation {
    # No name of a branch begins with "-".
    regex = "^(${local.address_pattern}(#[^\\s?$#-][^\\s?$#]{0,250})?)?$"
    error = local.repository_error
  }
}

data "coder_parameter" "git_shallow" {
  name         = "git_shallow"
  display_name = "Shallow clone"
  description  = "Without the history: only the newest commit is cloned. For a repository that is too large to wait for."
  icon         = "/icon/git.svg"
  type         = "bool"
  default      = false
  mutable      = true
  # Behind the repository: Coder sorts equal ones by name.
  order = 1
}

data "coder_parameter" "dotfiles_repository" {
  name         = "dotfiles_repository"
  display_name = "Dotfiles repository"
  description  = "Your personal settings, applied at every start by `coder dotfiles`. Empty for none."
  icon         = "/icon/dotfiles.svg"
  type         = "string"
  default      = ""
  mutable      = true
  order        = 2

  validation {
    regex = "^(${local.address_pattern})?$"
    error = local.repository_error
  }
}

data "coder_parameter" "image" {
  name         = "image"
  display_name = "Image"
  description  = "The tools that the workspace has. Another image keeps the home folder and loses what was installed outside it."
  icon         = "/icon/docker.png"
  type         = "string"
  default      = local.images[0]
  mutable      = true
  order        = 3

  dynamic "option" {
    for_each = local.images
    content {
      name  = option.value
      value = option.value
    }
  }
}

data "coder_parameter" "memory_mb" {
  name         = "memory_mb"
  display_name = "Memory (MiB)"
  description  = "A program that needs more than this is ended by the kernel."
  icon         = "/icon/memory.svg"
  type         = "number"
  default      = var.memory_default_mb
  mutable      = true
  order        = 4

  validation {
    min   = 512
    max   = var.memory_cap_mb
    error = "Memory must be between {min} and {max} MiB; the box's owner sets the upper limit."
  }
}

data "coder_parameter" "cpus" {
  name         = "cpus"
  display_name = "CPU cores"
  description  = "The most cores that the workspace may use at a time."
  icon         = "/emojis/1f9ee.png"
  type         = "number"
  default      = var.cpus_default
  mutable      = true
  order        = 5

  validation {
    min   = 1
    max   = var.cpus_cap
    error = "CPU cores must be between {min} and {max}; the box's owner sets the upper limit."
  }
}

data "coder_parameter" "keep_alive_hours" {
  name         = "keep_alive_hours"
  display_name = "Keep-alive limit (hours)"
  description  = "A Claude at work keeps the workspace from being stopped for at most this long. 0 switches that off."
  icon         = "/emojis/23f3.png"
  type         = "number"
  default      = var.keep_alive_max_hours
  mutable      = true
  order        = 6

  validation {
    min   = 0
    max   = var.keep_alive_max_hours
    error = "The keep-alive limit must be between {min} and {max} hours; the box's owner sets the upper limit."
  }
}
