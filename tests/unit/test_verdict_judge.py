"""The verdict follows from the rule and its thresholds, and never from an unknown figure."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pilot.verdict import report
from pilot.verdict.figures import Figures, compute
from pilot.verdict.judge import Verdict, judge
from pilot.verdict.memory import Bounds
from stack import settings
from tests.unit.program import LOCAL, declare
from tests.unit.verdict_history import Workspace, at, raw, sample

GOOD = settings.Verdict(min_days=7, min_net_gib_h_per_day=24, max_failed_percent=10, max_stopped_runs=0)


def _measured(ram_mib: float) -> dict[str, object]:
    return {"samples": [sample(at(6, minutes=-5 * each), demo=ram_mib, other=ram_mib) for each in range(3)]}


def _week() -> list[Workspace]:
    """Two workspaces, parked for six days of seven."""
    return [Workspace(name).start(at(7)).autostop(at(6), seconds=0) for name in ("demo", "other")]


def _verdict(*workspaces: Workspace, days: int = 7, rule: settings.Verdict = GOOD, **more: object) -> Verdict:
    return judge(compute(raw(*workspaces, days=days, **more)), rule)


def test_ram_given_back_beyond_the_threshold_says_keep() -> None:
    verdict = _verdict(*_week(), **_measured(2048))
    assert verdict.outcome == "keep"
    # 2 workspaces, 2 GiB, 6 days of 7, less 416 MiB all day long.
    assert f"{(2 * 2 * 6 * 24 - 416 / 1024 * 7 * 24) / 7:.1f} GiB·h a day net" in verdict.line


def test_ram_given_back_below_the_threshold_says_retire() -> None:
    verdict = _verdict(*_week(), **_measured(256))
    assert verdict.outcome == "retire"
    assert "verdictMinNetGibHPerDay" in verdict.line


def test_almost_nothing_is_no_negative_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    assert report.number(-0.04, "GiB·h") == "0.0 GiB·h"
    assert report.number(-0.06, "GiB·h") == "-0.1 GiB·h"
    monkeypatch.setattr(Figures, "net_gib_h", Bounds(low=-0.2, high=-0.2))
    assert _verdict(*_week()).checks[2].found == "0.0 GiB·h a day net"


def test_workspaces_never_measured_leave_it_open_unless_even_their_limits_are_too_little() -> None:
    assert _verdict(*_week()).outcome == "too early"
    small = [Workspace(name, memory_mb="512").start(at(7)).autostop(at(6)) for name in ("demo", "other")]
    assert _verdict(*small).outcome == "retire"


def test_an_unknown_control_plane_leaves_it_open() -> None:
    verdict = _verdict(*_week(), usage=None, workspace_usage=None)
    assert verdict.outcome == "too early"
    assert "unknown" in verdict.line


def test_a_short_history_is_too_early_whatever_it_shows() -> None:
    young = {"created_at": at(3).isoformat()}
    late = Workspace("demo").start(at(2)).autostop(at(1))
    assert "3.0 days" in _verdict(late, user=young, **_measured(9999)).line
    assert _verdict(*_week(), days=3, **_measured(2048)).outcome == "too early"
    assert _verdict(late, user=young, rule=GOOD.__class__(**{**vars(GOOD), "min_days": 3})).outcome != "keep"


def test_no_workspace_is_too_early() -> None:
    assert _verdict().line == "too early: there was no workspace in this time"


def test_too_many_failed_builds_say_retire() -> None:
    made = _week()
    made[0].start(at(5), status="failed", error="no image").stop(at(4), seconds=0)
    verdict = _verdict(*made, **_measured(4096))
    assert verdict.outcome == "retire"
    assert "1 of 6 builds failed" in verdict.line


def test_a_working_run_that_was_stopped_says_retire() -> None:
    made = _week()
    begin = at(5)
    reports = [(begin + timedelta(minutes=each), "working", "Claude is working") for each in range(60)]
    made[0].start(begin, reports=reports).autostop(begin + timedelta(minutes=60), seconds=0)
    verdict = _verdict(*made, **_measured(4096))
    assert verdict.outcome == "retire"
    assert "1 of 1 runs interrupted" in verdict.line


def test_sessions_without_any_report_or_sample_leave_it_open() -> None:
    made = _week()
    made[0].start(at(5), apps_moved=True).autostop(at(5, hours=-3), seconds=0)
    verdict = _verdict(*made, **_measured(4096))
    assert verdict.outcome == "too early"
    assert "1 session unknown without samples" in verdict.line


def test_a_week_in_which_nobody_came_says_retire() -> None:
    parked = Workspace("demo").start(at(20)).stop(at(19))
    verdict = _verdict(parked, samples=[sample(at(6), demo=9000)])
    assert verdict.outcome == "retire"
    assert "0 sessions" in verdict.line


def test_the_thresholds_are_settings_and_no_resource_depends_on_them() -> None:
    keys = [key for key, (group, _, _) in settings.KEYS.items() if group == "verdict"]
    assert len(keys) == 4
    before, after = declare(LOCAL), declare({**LOCAL, **dict.fromkeys(keys, "1")})
    # By name: independent resources register in any order.
    inputs = [{(each.type, each.name): each.inputs for each in found.resources} for found in (before, after)]
    assert inputs[0] == inputs[1]
    assert before.exports == after.exports


def _typed(*workspaces: Workspace, days: int = 7, **more: object) -> list[str]:
    figures = compute(raw(*workspaces, days=days, **more))
    return report.what_to_type(figures, judge(figures, GOOD), GOOD)


def test_every_answer_ends_with_what_to_type() -> None:
    (first,) = _typed(*_week(), **_measured(2048))
    assert "`make import FROM=<container>:<path> NAME=<workspace>`" in first
    assert [line.split("`")[1] for line in _typed(*_week(), **_measured(256))] == [
        "make leave", "make down",
    ]  # fmt: skip
    assert _typed() == ["`make workspace NAME=demo`"]
    assert "once what is unknown above is known" in _typed(*_week())[0]
    young = {"created_at": at(3).isoformat()}
    (again,) = _typed(Workspace("demo").start(at(2)).autostop(at(1)), user=young, **_measured(9999))
    assert f"again, on {at(3) + timedelta(days=7):%Y-%m-%d} at the earliest" in again
