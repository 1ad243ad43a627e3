"""The template for a cluster says what a workspace is there: the claim is kept, limits hold, tokens stay hidden."""

from __future__ import annotations

import pytest

from tests.template.template_support import TESTS, Tofu

KUBERNETES_TESTS = TESTS / "kubernetes"


def test_the_template_is_formatted_and_valid(tofu_on_kubernetes: Tofu) -> None:
    for words in (("fmt", "-check", "-diff", "-recursive"), ("validate",)):
        checked = tofu_on_kubernetes(*words, "-no-color")
        assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("file", sorted(path.name for path in KUBERNETES_TESTS.glob("*.tftest.hcl")))
def test_every_run_of_the_template_s_tests_passes(tofu_on_kubernetes: Tofu, file: str) -> None:
    tested = tofu_on_kubernetes("test", "-no-color", f"-filter=tests/{file}")
    runs = (KUBERNETES_TESTS / file).read_text().count('\nrun "')
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert f"Success! {runs} passed, 0 failed." in tested.stdout
