"""How every password of the pilot is made."""

from __future__ import annotations

import pulumi
import pulumi_random as random


def declare(logical_name: str, length: int, opts: pulumi.ResourceOptions) -> random.RandomPassword:
    """A password of `length` letters and digits; it is secret in the state.

    Every argument is written out: a default that a new version of the provider changes would replace the password.
    """
    return random.RandomPassword(
        logical_name,
        length=length,
        lower=True,
        min_lower=1,
        upper=True,
        min_upper=1,
        numeric=True,
        min_numeric=1,
        special=False,
        min_special=0,
        override_special="",
        keepers={},
        opts=opts,
    )
