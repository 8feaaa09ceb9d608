"""The comment of a pull request, from the plan of the branch to what the merge did."""

import pytest

from reconciler.render.plan_markdown import MARKER
from tests.e2e.test_approval import begun, expect, plan_id
from tests.support.rig import Rig

pytestmark = pytest.mark.usefixtures("bao")


def title(text: str) -> str:
    """Return the line under the marker that finds the comment again."""
    marker, line = text.split("\n")[:2]
    assert marker == MARKER
    return line


def test_a_new_server_is_no_green_check_where_nobody_looked(rig: Rig) -> None:
    server = begun(rig)

    ran = rig.plan("--recorded", "-o", "markdown")

    assert title(ran.out) == "### 🔑 jtr plan: 1 server: 1 with new recipients"
    assert "**1 not compared: more may be written than is counted here.**" in ran.out
    assert "first contact" in ran.out
    assert server.record.handshakes == []


def test_the_same_comment_says_what_became_of_it(rig: Rig) -> None:
    begun(rig)
    expected = plan_id(rig)
    assert f"`jtr apply --expect {expected}`" in rig.plan("-o", "markdown").out

    applied = expect(rig, expected, "-o", "markdown")
    again = expect(rig, expected, "-o", "markdown")

    assert applied.code == again.code == 0
    assert title(applied.out).startswith("### ✅ jtr apply: applied, 20")
    # Its robots still hold what they had before.
    assert title(again.out).startswith("### ⚠ jtr apply: already applied, 20")


def test_what_is_refused_says_so(rig: Rig) -> None:
    server = begun(rig)
    expected = plan_id(rig)
    other = expected[:-4] + ("0000" if expected[-4:] != "0000" else "1111")

    ran = expect(rig, other, "-o", "markdown")

    assert ran.code == 4
    assert title(ran.out).startswith("### ⛔ jtr apply: refused, 20")
    assert "Nothing was done" in ran.out
    assert server.record.saves == 0
