"""A saved plan is read by people, without any server, secret or settings."""

from pathlib import Path

import pytest

from tests.support.rig import Rig


@pytest.fixture
def saved(rig: Rig) -> Path:
    """Return the file of a plan, whose server is gone."""
    rig.server()
    rig.document()
    rig.begin()
    path = rig.home / "plan.json"
    path.write_text(rig.plan("-o", "json").out, "utf-8")
    return path


def test_the_plan_is_shown_as_it_was(rig: Rig, saved: Path) -> None:
    for form in ("text", "markdown", "json"):
        shown = rig.jtr("show-plan", str(saved), "-o", form)
        assert shown.code == 0
        if form == "json":
            assert shown.out == saved.read_text("utf-8")
        assert "tokyo-1" in shown.out


def test_a_saved_plan_is_looked_at_as_a_new_one_is(rig: Rig) -> None:
    names = [f"tokyo-{number}" for number in range(1, 6)]
    for name in names:
        rig.server(name)
        rig.document(name)
    rig.begin()
    path = rig.home / "plan.json"
    path.write_text(rig.plan("-o", "json").out, "utf-8")

    brief = rig.jtr("show-plan", str(path))
    wide = rig.jtr("show-plan", str(path), "--wide")
    path.write_text(rig.apply("-o", "json").out, "utf-8")
    applied = rig.jtr("show-plan", str(path), "--changes-only")
    quiet = rig.jtr("show-plan", str(path), "--wide", "-q")

    assert "  + bybit@1 -> 5 servers: tokyo-1 .. tokyo-5" in brief.out
    assert wide.out.count("+ bybit") == len(names)
    assert "\nDone\n  ✓ write bybit@1 -> " in applied.out
    assert (quiet.code, quiet.out) == (64, "")


def test_what_was_applied_is_shown_with_its_time(rig: Rig, saved: Path) -> None:
    done = rig.jtr("apply", str(rig.docs), "--expect", str(saved), "-o", "json")
    saved.write_text(done.out, "utf-8")

    assert done.code == 0
    assert "1 done" in rig.jtr("show-plan", str(saved)).out
    shown = rig.jtr("show-plan", str(saved), "-o", "markdown").out
    assert shown.split("\n")[1].startswith("### ✅ jtr apply: applied, 20")


@pytest.mark.parametrize("text", ["", "{}", "[]", "not JSON", "\x00", '{"formatVersion": 1}'])
def test_what_is_no_plan_is_a_usage_error(rig: Rig, text: str) -> None:
    path = rig.home / "plan.json"
    path.write_text(text, "utf-8")

    ran = rig.jtr("show-plan", str(path))

    assert ran.code == 64
    assert "plan.json is not what `jtr plan -o json`" in ran.err
    assert ran.out == ""


def test_a_changed_plan_is_not_shown(rig: Rig, saved: Path) -> None:
    saved.write_text(saved.read_text("utf-8").replace("tokyo-1", "tokyo-2"), "utf-8")

    ran = rig.jtr("show-plan", str(saved))

    assert ran.code == 64
    assert "it was changed since it was written" in ran.err


def test_a_file_that_cannot_be_read(rig: Rig) -> None:
    for path in (rig.home / "nothing.json", rig.home):
        ran = rig.jtr("show-plan", str(path))
        assert ran.code == 64
        assert "cannot be read" in ran.err
