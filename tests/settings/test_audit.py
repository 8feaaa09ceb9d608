"""The settings' `audit`: from where exchanges are asked, and that no secret goes astray there."""

from pathlib import Path

import pytest

from reconciler.bootstrap import load_settings
from reconciler.errors import InvalidConfig
from reconciler.model.key_audits import HERE, Egress
from reconciler.settings import paths
from reconciler.settings.model import Settings

URL = "https://tokyo-1.internal:8443"


@pytest.fixture(autouse=True)
def nothing_of_this_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "SYSTEM_FILE", str(tmp_path / "etc" / "settings.yaml"))


def read(tmp_path: Path, text: str, **environ: str) -> Settings:
    path = tmp_path / "operator" / "settings.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return load_settings(str(path), {"HOME": str(tmp_path / "home"), **environ}, [])


def test_without_a_word_this_host_asks_and_remembers_with_its_state(tmp_path: Path) -> None:
    found = read(tmp_path, "role: ci\n")

    assert found.egress_of("tokyo-1", URL) == HERE
    assert HERE.name == "here"
    assert found.audit.cache == str(tmp_path / "home/.local/state/jtr/audit.json")
    assert read(tmp_path, "role: ci\n", XDG_STATE_HOME="/x").audit.cache == "/x/jtr/audit.json"
    assert found.audit.bases == {}


def test_the_first_rule_that_matches_counts_and_leaves_from_the_server(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        """\
audit:
  proxy: http://proxy.internal:3128
  cache: audit/answers.json
  proxies:
    - {servers: [tokyo-1], proxy: "socks5h://127.0.0.1:1080"}
    - {urls: ["https://*.internal:8443"], proxy: "socks5h://127.0.0.1:1081/"}
    - {servers: ["on-*"], proxy: direct}
""",
    )

    assert found.egress_of("tokyo-1", URL) == Egress("socks5h://127.0.0.1:1080", server=True)
    assert found.egress_of("osaka-1", URL) == Egress("socks5h://127.0.0.1:1081", server=True)
    assert found.egress_of("on-site", "https://a.test") == Egress("", server=True)
    assert found.egress_of("else", "https://a.test") == Egress("http://proxy.internal:3128")
    assert found.audit.cache == str(tmp_path / "operator/audit/answers.json")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("proxy: socks5h://user:word@proxy.test:1080", "a proxy: socks5h://HOST:PORT"),
        ("proxy: ftp://proxy.test:21", "a proxy: socks5h://HOST:PORT"),
        ("proxy: http://proxy.test", "this is not a proxy's address"),
        ("proxy: 'http://[::1:80'", "this is not a proxy's address"),
        ("proxies: [{proxy: 'http://proxy.test:80'}]", "this proxy is for no server"),
        ("proxies: [{servers: [tokyo-1]}]", "proxy"),
        ("bases: {bybit: 'http://127.0.0.1.evil.test:80'}", "not on this host"),
        ("bases: {bybit: 'https://exchange.test'}", "not on this host"),
        ("bases: {bybit: 'http://2130706433:80'}", "plain form"),
        ("bases: {bybit: 'http://user@127.0.0.1:80'}", "user or password"),
    ],
)
def test_what_would_lead_a_key_astray_is_refused(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(InvalidConfig) as raised:
        read(tmp_path, f"audit:\n  {text}\n")

    (problem,) = raised.value.problems
    assert what in str(problem)
    assert "word@" not in str(problem)


def test_a_sandbox_stands_in_for_exchanges_on_this_host(tmp_path: Path) -> None:
    found = read(
        tmp_path, "audit: {bases: {gate: 'http://127.0.0.1:9001/', okx: 'http://[::1]:9'}}"
    )

    assert found.audit.bases == {"gate": "http://127.0.0.1:9001", "okx": "http://[::1]:9"}
