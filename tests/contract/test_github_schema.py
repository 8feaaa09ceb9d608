"""The stand-in of GitHub asks and answers nothing but what GitHub publishes of its API."""

import pytest

from tests.support.github_schema import Misused, check

REPO = "/repos/desk/servers"


@pytest.mark.parametrize(
    ("method", "path", "query", "body", "status", "answer", "why"),
    [
        ("GET", f"{REPO}/pull", {}, None, 200, [], "has no GET"),
        ("GET", f"{REPO}/pulls", {"limit": "100"}, None, 200, [], "knows no {'limit'}"),
        ("POST", f"{REPO}/pulls", {}, {"head": "x"}, 201, {}, "required"),
        ("POST", f"{REPO}/statuses/abc", {}, {"state": "failed"}, 201, {}, "state: enum"),
        ("POST", f"{REPO}/statuses/abc", {}, {"state": "error", "a": 1}, 201, {}, "additional"),
        ("GET", f"{REPO}/issues/7/comments", {}, None, 200, [{"id": "1"}], "0/id: type"),
        ("GET", f"{REPO}/issues/7/comments", {}, None, 200, [{"author": {}}], "additional"),
    ],
)
def test_positive_control_what_github_does_not_know_is_noticed(
    method: str,
    path: str,
    query: dict[str, str],
    body: object,
    status: int,
    answer: object,
    why: str,
) -> None:
    with pytest.raises(Misused, match=why):
        check(method, path, query, body, status, answer)
