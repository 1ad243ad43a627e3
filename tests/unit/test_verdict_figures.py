"""Every figure follows from the raw answers alone; what they do not say is unknown, never zero."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from keeper import census, journal
from keeper.engine import Engine, Usage
from pilot.verdict import report, samples
from pilot.verdict.builds import PRESSURE, Failure
from pilot.verdict.figures import Figures, compute
from pilot.verdict.runs import PAST_LIMIT, REPORT_INTERVAL, WORKING
from pilot.verdict.workspaces import WorkspaceFigures
from stack.jobs import names
from stack.jobs.kubernetes import Cluster
from stack.jobs.names import WORKSPACE_LABEL
from tests.unit.verdict_history import UNTIL, Workspace, at, raw, sample

CHECKOUT = Path(__file__).resolve().parents[2]


def _only(figures: Figures) -> WorkspaceFigures:
    (found,) = figures.workspaces
    return found


def test_hours_run_from_the_request_to_start_and_park_from_the_end_of_the_stop() -> None:
    made = Workspace("demo").start(at(4)).stop(at(3), seconds=3600).start(at(1)).autostop(at(0, hours=12), seconds=0)
    found = _only(compute(raw(made)))
    assert found.running_h == pytest.approx(24 + 1 + 12)
    assert found.parked_h == pytest.approx(47 + 12)
    assert found.autoparked_h == pytest.approx(12)
    assert found.unclear_h == 0
    assert (found.sessions, found.autostops, found.hand_stops) == (2, 1, 1)


def test_what_began_before_the_period_counts_from_its_beginning() -> None:
    made = Workspace("demo").start(at(20)).stop(at(6))
    found = _only(compute(raw(made, days=7)))
    assert found.running_h == pytest.approx(24 + 5 / 3600)
    assert found.sessions == 1
    assert _only(compute(raw(made, days=2))).running_h == 0


def test_a_failed_build_leaves_unclear_hours_and_its_reason() -> None:
    made = Workspace("demo").start(at(3)).stop(at(2))
    made.start(at(1), status="failed", error="Error: no such image\nmore", ready_s=None)
    figures = compute(raw(made))
    found = _only(figures)
    assert found.unclear_h == pytest.approx(24)
    assert found.parked_h == pytest.approx(24 - 5 / 3600)
    assert found.existed_h == pytest.approx(72)
    (failure,) = figures.failures
    assert failure == Failure(time=at(1), workspace="admin/demo", transition="start", reason="Error: no such image")
    assert figures.failed_percent == pytest.approx(100 / 3)


def test_a_cancelled_build_is_not_a_failure_and_leaves_unclear_hours() -> None:
    figures = compute(raw(Workspace("demo").start(at(2), status="canceled", ready_s=None)))
    assert (figures.cancelled, figures.builds, figures.failures) == (1, 0, ())
    assert figures.failed_percent is None
    assert _only(figures).unclear_h == pytest.approx(48)


def test_a_build_that_was_cancelled_half_way_is_not_a_failure_though_terraform_failed() -> None:
    made = Workspace("demo").start(at(2), status="failed", error="terraform apply: exit status 1", ready_s=None)
    assert len(compute(raw(made)).failures) == 1
    made.builds[-1]["job"]["canceled_at"] = "0001-01-01T00:00:00Z"
    assert len(compute(raw(made)).failures) == 1
    made.builds[-1]["job"]["canceled_at"] = at(2).isoformat()
    figures = compute(raw(made))
    assert (figures.cancelled, figures.builds, figures.failures) == (1, 0, ())
    assert [each.status for each in figures.starts] == ["canceled"]
    assert _only(figures).unclear_h == pytest.approx(48)


@pytest.mark.parametrize("status", ["pending", "running", "canceling"])
def test_a_build_that_still_runs_is_named_and_counts_as_held(status: str) -> None:
    made = Workspace("demo").start(at(3)).stop(at(2)).start(at(0, minutes=30), status=status, ready_s=None)
    figures = compute(raw(made))
    found = _only(figures)
    assert found.building == "start"
    assert found.running_h == pytest.approx(24 + 0.5, abs=0.01)
    assert figures.builds == 2
    assert len(figures.starts) == 2
    assert len(figures.ready_s()) == 1


def test_a_stop_that_still_runs_does_not_end_the_session() -> None:
    found = _only(compute(raw(Workspace("demo").start(at(1)).stop(at(0, minutes=1), status="running"))))
    assert (found.sessions, found.hand_stops) == (1, 0)
    assert found.running_h == pytest.approx(24)
    assert found.parked_h == 0


def test_a_clock_that_was_set_back_makes_a_warning_and_no_negative_or_double_hours() -> None:
    made = Workspace("demo").start(at(1)).stop(at(0, hours=12)).start(at(0, hours=20)).stop(at(0, hours=6))
    figures = compute(raw(made))
    found = _only(figures)
    assert found.existed_h == pytest.approx(24)
    assert all(span.hours >= 0 for span in found.spans)
    assert any("build 3" in each and "8.0 h before" in each for each in figures.warnings)


def test_a_build_in_the_future_makes_a_warning_and_no_hours_beyond_now() -> None:
    figures = compute(raw(Workspace("demo").start(UNTIL + timedelta(hours=2))))
    assert any("in the future" in each for each in figures.warnings)
    assert sum(each.existed_h for each in figures.workspaces) == 0


def test_a_deleted_workspace_counts_until_it_was_deleted() -> None:
    made = Workspace("demo", deleted=True).start(at(3)).build("delete", at(2), seconds=0)
    figures = compute(raw(made))
    assert _only(figures).deleted
    assert _only(figures).existed_h == pytest.approx(24)
    assert figures.sessions == 1


def test_two_workspaces_that_had_one_name_are_two() -> None:
    old, new = Workspace("demo", deleted=True, memory_mb="1024"), Workspace("demo", memory_mb="2048")
    answers = raw(new)
    old.start(at(3)).stop(at(2), seconds=0).build("delete", at(1), seconds=0)
    new.start(at(1)).stop(at(0, hours=12), seconds=0)
    both = raw(
        workspaces=[{**old.record(), "id": "old"}, new.record()], builds={"old": old.builds, new.id: new.builds},
        parameters={"old": {"memory_mb": "1024"}, new.id: {"memory_mb": "2048"}},
    )  # fmt: skip
    assert answers.workspaces
    assert compute(both).by_limit.given_back.low == pytest.approx(24 * 1 + 12 * 2)


def test_used_hours_come_from_the_stop_by_hand_the_deadline_or_the_last_use() -> None:
    by_hand = Workspace("a").start(at(2)).stop(at(1))
    assert _only(compute(raw(by_hand))).used_h == pytest.approx(24)
    open_now = Workspace("b", last_used_at=at(0, hours=20)).start(at(1))
    assert _only(compute(raw(open_now))).used_h == pytest.approx(4)
    # The deadline moved to 10 hours after the start, by an activity at most one hour before it.
    older = Workspace("c", last_used_at=at(0, hours=1)).start(at(3), deadline=at(2, hours=14)).autostop(at(2, hours=14))
    older.start(at(0, hours=2))
    assert _only(compute(raw(older))).used_h == pytest.approx(9 + 1)


def test_a_start_without_a_stop_before_it_begins_a_session_of_its_own() -> None:
    # The first one's deadline would have ended the use an hour after its start.
    made = Workspace("demo").start(at(3), deadline=at(3, hours=-2), apps_moved=True)
    made.start(at(2), deadline=at(1), reports=[(at(2, hours=-1), "working", "Claude is working")])
    figures = compute(raw(made.autostop(at(1)).start(at(0, hours=1))))
    found = _only(figures)
    assert (found.sessions, found.autostops, found.hand_stops) == (3, 1, 0)
    assert found.running_h == pytest.approx(48 + 1, abs=0.01)
    assert found.used_h == pytest.approx(24 + 23 + 1)
    assert (figures.runs.total, figures.runs.untold_sessions) == (1, 1)


def test_used_hours_without_a_deadline_are_unknown() -> None:
    made = Workspace("demo").start(at(3)).autostop(at(2)).start(at(1)).stop(at(0, hours=1))
    assert _only(compute(raw(made))).used_h is None


def test_the_time_to_ready_leaves_out_what_nobody_knows() -> None:
    made = Workspace("demo").start(at(6), ready_s=4).stop(at(5)).start(at(4), ready_s=10).stop(at(3))
    made.start(at(2), ready_s=30, agent_restarted=True).stop(at(1)).start(at(0, hours=1), ready_s=None)
    figures = compute(raw(made))
    assert figures.ready_s() == [4, 10]
    assert figures.median_ready_s == 7
    assert [each.seconds for each in figures.starts] == [4, 10, None, None]


def test_nothing_started_means_an_unknown_median() -> None:
    assert compute(raw()).median_ready_s is None


def _reports(begin_h: float, end_h: float, last: tuple[str, str] | None = None) -> list:
    """Reports of work each minute, hours after the start three days ago."""
    minutes = range(int(begin_h * 60), int(end_h * 60) + 1)
    found = [(at(3) + timedelta(minutes=each), "working", "Claude is working") for each in minutes]
    return found + ([(found[-1][0] + timedelta(minutes=1), *last)] if last else [])


def test_a_run_that_outlived_the_deadline_it_began_with_was_saved() -> None:
    # Deadline 2 h after the start; the activity bump is 1 h.
    long = Workspace("long").start(at(3), reports=_reports(1, 4, ("idle", "Claude is idle"))).autostop(at(2))
    short = Workspace("short").start(at(3), reports=_reports(0.5, 1.5)).autostop(at(2))
    # At 1.8 h it can have been given until 2.8 h, without keep-alive.
    middle = Workspace("middle").start(at(3), reports=_reports(1.8, 2.7)).autostop(at(2))
    never = Workspace("never", ttl_ms=None).start(at(3), reports=_reports(0, 9)).stop(at(2))
    runs = compute(raw(long, short, middle, never)).runs
    assert (runs.total, runs.saved) == (4, 1)


def test_a_rest_of_more_than_ten_minutes_ends_a_run() -> None:
    made = Workspace("demo").start(at(3), reports=[*_reports(0.1, 0.2), *_reports(0.5, 0.6)]).stop(at(2))
    assert compute(raw(made)).runs.total == 2


def test_a_stop_during_a_run_is_told_by_who_stopped_it() -> None:
    by_hand = Workspace("a").start(at(3), reports=_reports(0, 1)).stop(at(3, hours=-1, minutes=-1))
    by_autostop = Workspace("b").start(at(3), reports=_reports(0, 1)).autostop(at(3, hours=-1, minutes=-2))
    later = Workspace("c").start(at(3), reports=_reports(0, 1)).autostop(at(3, hours=-1, minutes=-10))
    limit = ("idle", f"Claude is working, but {PAST_LIMIT}")
    capped = Workspace("d").start(at(3), reports=_reports(0, 1, limit)).autostop(at(2))
    runs = compute(raw(by_hand, by_autostop, later, capped)).runs
    assert (runs.stopped_by_hand, runs.stopped_by_autostop, runs.stopped_past_limit) == (1, 1, 1)
    assert runs.stopped == 2


def test_a_session_whose_reports_coder_no_longer_tells_is_told_by_the_samples() -> None:
    made = Workspace("demo").start(at(3), apps_moved=True, deadline=at(2, hours=22)).autostop(at(2, hours=20))
    made.start(at(1)).stop(at(0, hours=20))
    assert compute(raw(made)).runs.untold_sessions == 1
    texts = ["idle", *(f"working for {each} min" for each in range(238))]
    seen = [sample(at(3, minutes=-(place + 1)), claude={"demo": text}) for place, text in enumerate(texts)]
    figures = compute(raw(made, samples=seen))
    runs = figures.runs
    assert (runs.total, runs.saved, runs.stopped_by_autostop, runs.untold_sessions) == (1, 1, 1, 0)
    # Up to the last sample of work in the first session, up to the stop in the second.
    assert _only(figures).used_h == pytest.approx(239 / 60 + 4)
    capped = sample(at(3, hours=-3, minutes=-59), claude={"demo": f"working, but {PAST_LIMIT}"})
    assert compute(raw(made, samples=[*seen[:-1], capped])).runs.stopped_past_limit == 1


def test_a_session_too_short_for_a_sample_hides_no_stopped_run() -> None:
    made = Workspace("demo").start(at(3), apps_moved=True).stop(at(3, minutes=-10)).start(at(1))
    assert compute(raw(made)).runs.untold_sessions == 0


def test_a_failed_stop_leaves_unclear_hours() -> None:
    made = Workspace("demo").start(at(3)).stop(at(2), status="failed", error="no engine", seconds=0)
    found = _only(compute(raw(made)))
    assert (found.running_h, found.unclear_h, found.parked_h) == (pytest.approx(24), pytest.approx(48), 0)


def test_the_watcher_of_the_template_says_what_the_figures_look_for() -> None:
    script = (CHECKOUT / "terraform-template" / "scripts" / "keep-alive.sh").read_text()
    assert PAST_LIMIT in script
    assert f"_INTERVAL_S:-{REPORT_INTERVAL.seconds}}}" in script
    assert f'show "{WORKING}$' in script
    assert 'echo "$1" >"$state_dir/status"' in script
    assert Path(census.CLAUDE_STATUS).parent.as_posix() in (CHECKOUT / "terraform-template" / "main.tf").read_text()


class OneWorkspace(Engine):
    """An engine that runs one workspace, which wrote something else than the watcher does."""

    def containers(self, stack: str) -> list[dict[str, Any]]:
        return [{"Id": "c", "State": "running", "Labels": {WORKSPACE_LABEL: stack}}]

    def files(self, container_ids: Iterable[str], path: str) -> dict[str, str]:
        return {each: f"{each}\x1b[2J of {path}{'x' * 100}\nmore\n" for each in container_ids}


def test_what_a_workspace_says_about_its_claude_is_one_short_line_of_plain_text() -> None:
    engine = OneWorkspace(host="unix:///none")
    said = census.claude(engine, engine.containers("w"))
    assert said == {"w": f"c[2J of {census.CLAUDE_STATUS}{'x' * 100}"[: census.CLAUDE_STATUS_MAX]}


def test_ram_given_back_is_told_by_limit_and_by_measured_peak() -> None:
    made = Workspace("demo").start(at(3)).stop(at(2), seconds=0)
    seen = [sample(at(3, minutes=-minute), demo=512 + minute) for minute in range(0, 60, 5)]
    figures = compute(raw(made, samples=seen))
    assert figures.by_limit.given_back.low == pytest.approx(48 * 4)
    assert figures.by_peak.given_back.low == pytest.approx(48 * (512 + 55) / 1024)
    assert _only(figures).measured == 12


def test_a_workspace_never_measured_gives_back_between_nothing_and_its_limit() -> None:
    made = Workspace("demo").start(at(3)).stop(at(2), seconds=0)
    given = compute(raw(made)).by_peak.given_back
    assert (given.low, given.high) == (0, pytest.approx(48 * 4))
    assert not given.known
    no_limit = Workspace("other", memory_mb="").start(at(3)).stop(at(2))
    assert compute(raw(no_limit)).by_peak.given_back.high is None


def test_a_workspace_on_a_cluster_gives_back_its_limit_which_the_node_sets_aside() -> None:
    there = Workspace("there", template=names.KUBERNETES_TEMPLATE).start(at(3)).stop(at(2), seconds=0)
    figures = compute(raw(there))
    found = _only(figures)
    assert (found.on_cluster, found.peak_gib, found.limit_gib) == (True, None, 4.0)
    assert found.parked_h == pytest.approx(48)
    assert figures.by_peak.given_back.known
    assert figures.by_peak.given_back.low == pytest.approx(48 * 4)
    rows = {row.name: row for section in report.sections(figures) for row in section.rows}
    assert rows["Of it on the cluster"].value == "192.0 GiB·h, 1 workspace, use unknown"
    assert figures.kept == ("claim coder-id-there-home (home of admin/there)",)
    measured = {"id-there": Usage(ram_mib=512, cpu_percent=None)}
    figures = compute(raw(there, workspace_usage=measured))
    assert _only(figures).peak_gib == 0.5
    assert figures.by_peak.given_back.low == pytest.approx(48 * 4)
    rows = {row.name: row for section in report.sections(figures) for row in section.rows}
    assert rows["Of it on the cluster"].value == "192.0 GiB·h, 1 workspace, 1 of 1 measured"
    here = compute(raw(Workspace("here").start(at(3))))
    assert "Of it on the cluster" not in {row.name for section in report.sections(here) for row in section.rows}


@pytest.mark.parametrize(
    ("quantity", "mib"), [("182716Ki", 178.4), ("1Gi", 1024), ("64Mi", 64), ("104857600", 100), ("105M", 100.1)]
)
def test_what_a_clusters_metrics_api_measured_is_of_all_containers_of_a_pod(quantity: str, mib: float) -> None:
    asked = []

    class Metrics(Cluster):
        def call(self, method: str, path: str, body: object = None, *, content: str = "") -> Any:
            asked.append(path)
            usage = {"usage": {"cpu": "3m", "memory": quantity}}
            return {"items": [{"metadata": {"labels": {WORKSPACE_LABEL: "w"}}, "containers": [usage, usage]}]}

    found = samples.usages_on_cluster(Metrics(server="https://x", authority="", token=""), "ours")
    assert found["w"].ram_mib == pytest.approx(2 * mib, rel=1e-3)
    assert asked == ["/apis/metrics.k8s.io/v1beta1/namespaces/ours/pods?labelSelector=coder.workspace_id"]


def test_the_alternatives_hold_the_same_hours_without_parking_or_without_autostop() -> None:
    made = Workspace("demo").start(at(4)).autostop(at(3), seconds=0).start(at(2)).stop(at(1), seconds=0)
    by = compute(raw(made)).by_limit
    assert by.always_on.low == pytest.approx(96 * 4)
    assert by.bare.low == pytest.approx((24 + 24 + 24) * 4)
    assert by.pilot is not None
    assert by.pilot.low == pytest.approx(48 * 4 + (400 / 1024) * 7 * 24)


def test_the_net_takes_the_mean_of_the_samples_and_else_what_is_now() -> None:
    made = Workspace("demo").start(at(3)).stop(at(2), seconds=0)
    now = compute(raw(made))
    assert now.control_plane_gib_h == pytest.approx((400 / 1024) * 7 * 24)
    assert now.parts["coder"].ram_mean_gib is None
    seen = [sample(at(3, minutes=-minute), demo=1024) for minute in range(0, 60, 5)]
    sampled = compute(raw(made, samples=seen))
    assert sampled.control_plane_gib_h == pytest.approx(416 / 1024 * 7 * 24)
    assert sampled.net_gib_h is not None
    assert sampled.net_gib_h.low == pytest.approx(48 - 416 / 1024 * 7 * 24)


def test_without_an_engine_its_figures_are_unknown() -> None:
    nothing = dict.fromkeys(("usage", "workspace_usage", "containers", "networks", "disk", "data_bytes", "dumps"), None)
    figures = compute(raw(Workspace("demo").start(at(1)), **nothing))
    disk = figures.disk
    assert (disk.data, disk.images, disk.volumes, disk.dumps, disk.dumps_count) == (None,) * 5
    assert figures.control_plane_gib_h is None
    assert figures.net_gib_h is None
    assert figures.by_limit.pilot is None
    assert (figures.removed, figures.kept) == (None, None)


def test_a_volume_that_the_engine_did_not_measure_is_unknown_and_no_minus_one() -> None:
    made = Workspace("demo").start(at(1))
    volume = {"Name": "v", "Labels": {"coder.workspace_id": made.id}, "UsageData": {"Size": -1}}
    disk = {"Images": [], "Volumes": [volume]}
    assert compute(raw(made, disk=disk)).disk.volumes is None
    volume["UsageData"] = {"Size": 1024**3}
    figures = compute(raw(made, disk=disk))
    assert figures.disk.volumes == 1
    assert figures.kept == ("volume v (home of admin/demo)",)


def test_downtime_is_what_samples_saw_and_a_gap_is_not_seen() -> None:
    seen = [
        sample(at(1)),
        sample(at(1, minutes=-5), answers=False),
        sample(at(1, minutes=-10)),
        sample(at(0, hours=12)),
        sample(at(0, hours=12, minutes=-5)),
    ]
    figures = compute(raw(samples=seen))
    assert figures.watched_h == pytest.approx(15 / 60)
    assert figures.down_h == pytest.approx(5 / 60)
    assert compute(raw()).down_h is None


def test_a_clock_that_was_set_between_two_samples_is_told_and_not_counted() -> None:
    first = sample(at(1), uptime_s=1000)
    seen = samples.watch([first, sample(at(1, minutes=-10), uptime_s=1300), sample(at(1, minutes=-15), uptime_s=1600)])
    assert seen.seen == timedelta(minutes=5)
    assert len(seen.clock_jumps) == 1
    assert "+300 s" in seen.clock_jumps[0]


def test_samples_come_back_as_they_were_written_and_a_broken_line_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / names.SAMPLES
    journal.append(file, sample(at(1), demo=100).record())
    with file.open("a") as stream:
        stream.write('{"time": "2026-1')
    journal.append(file, sample(at(2)).record())
    journal.append(file, sample(at(20)).record())
    assert samples.read(tmp_path, at(7), UNTIL) == [sample(at(2)), sample(at(1), demo=100)]
    assert samples.read(tmp_path / "none", at(7), UNTIL) == []


def test_a_sample_of_before_the_keeper_is_still_read(tmp_path: Path) -> None:
    record = sample(at(1), demo=100).record()
    del record["host_available_mib"], record["host_total_mib"]
    journal.append(tmp_path / names.SAMPLES, record)
    (found,) = samples.read(tmp_path, at(7), UNTIL)
    assert (found.host_total_mib, found.workspace_ram_mib) == (None, {"id-demo": 100})


def test_stops_that_the_keeper_asked_for_are_counted_apart_and_park_as_autostop_does() -> None:
    made = Workspace("demo").start(at(4)).stop(at(3), reason=PRESSURE, seconds=0).start(at(2)).stop(at(1), seconds=0)
    stop = {"build": made.builds[1]["id"], "ram_mib": 512.0}
    figures = compute(raw(made, stops={stop["build"]: stop}))
    found = _only(figures)
    assert (found.autostops, found.pressure_stops, found.hand_stops) == (0, 1, 1)
    # Without the keeper it would have run on.
    assert figures.by_limit.bare.low == pytest.approx(72 * 4)
    (pressed,) = figures.pressed
    assert (pressed.workspace, pressed.ram_mib) == ("admin/demo", 512)
    (row,) = [row for section in report.sections(figures) for row in section.rows if row.name == "Stopped for memory"]
    assert row.value == "1 time, which gave back 512 MiB"


def test_the_container_of_before_is_compared_by_what_it_had_while_it_ran() -> None:
    seen = [sample(at(1, minutes=-minute), host_total_mib=32_000) for minute in range(4)]
    for each in seen[:3]:
        each.ram_mib[samples.STANDALONE] = 2048
    # One from before the keeper, which did not look.
    figures = compute(raw(samples=[sample(at(2)), *seen], standalone="code-server"))
    assert figures.standalone is not None
    assert (figures.standalone.ram_mean_gib, figures.standalone.share) == (2, 0.75)
    assert figures.standalone.gib_h == pytest.approx(2 * 0.75 * 7 * 24)
    assert figures.parts["coder"].ram_mean_gib == pytest.approx(300 / 1024)
    shown = [row for section in report.sections(figures) for row in section.rows if row.name == "Container code-server"]
    assert shown[0].value == "252.0 GiB·h"
    assert compute(raw(samples=seen)).standalone is None
    assert compute(raw(samples=[sample(at(1))], standalone="code-server")).standalone is None


def test_the_period_is_no_longer_than_the_pilot_is_old() -> None:
    young = raw(Workspace("demo").start(at(2)), user={"created_at": at(3).isoformat()})
    assert compute(young).days == pytest.approx(3)
    assert compute(raw(Workspace("demo").start(at(2)))).days == pytest.approx(7)
