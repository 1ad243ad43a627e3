"""What the program makes of the settings of the admin's account; what the job behind it does is in test_jobs.py."""

from __future__ import annotations

from tests.unit.program import LOCAL, declare

OWN = "a password of the owner's own"


def test_a_password_of_ones_own_is_the_admins_and_leaves_the_generated_one_declared() -> None:
    generated, own = declare(LOCAL), declare({**LOCAL, "adminPassword": OWN}, secrets=("adminPassword",))
    for declared, password in ((generated, "password-of-admin-password"), (own, OWN)):
        account = declared.one("admin-account")
        assert account.inputs["environment"]["ADMIN_PASSWORD"] == password
        assert "environment" in account.secrets
        assert declared.exports["adminPassword"]["value"] == password
    assert own.one("admin-password").inputs == generated.one("admin-password").inputs
