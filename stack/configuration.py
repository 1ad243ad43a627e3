"""The settings of the stack that is running, from the configuration that Pulumi hands to the program."""

from __future__ import annotations

from pathlib import Path

import pulumi
from pulumi.runtime import config as runtime_config

from stack import settings, told


def load() -> settings.Settings:
    """The settings of this stack.

    Raises:
        pulumi.RunError: they have problems; the message lists them all.
    """
    prefix = f"{pulumi.Config().name}:"
    # The engine hands the configuration over in the environment, tests set it by `set_all_config`.
    everything = {**runtime_config.get_config_env(), **runtime_config.CONFIG.get()}
    secret = {*runtime_config.get_config_secret_keys_env(), *runtime_config._SECRET_KEYS.get()}
    values = {
        key.removeprefix(prefix): settings.Encrypted(plain=str(value)) if key in secret else str(value)
        for key, value in everything.items()
        if key.startswith(prefix)
    }
    try:
        # `pulumi` runs the program in the project's folder.
        return settings.parse(values, Path.cwd())
    except settings.SettingsError as error:
        raise told.refusal(str(error)) from None
