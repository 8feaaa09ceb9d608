"""What a server looks like after its defaults, and where each value comes from."""

from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.documents.effective import BUILT_IN, Effective
from reconciler.documents.load import load
from reconciler.errors import InvalidConfig
from reconciler.model.desired import Mode, Presence
from reconciler.model.references import SecretRef
from reconciler.model.source import NOWHERE

Give = Callable[[str], Effective]

GENERAL = """
apiVersion: jtr/v1
kind: Defaults
metadata: {name: all}
spec:
  accessSecret: vault:secret/{server}#access
  mode: observe
  security: {ipWhitelist: [203.0.113.1, 203.0.113.2], onUnverifiable: block}
  exchanges:
    bybit: {credentials: "vault:secret/{server}/{exchange}"}
    okx: {security: {maxKeyAge: 30d}}
"""
SELECTIVE = """
apiVersion: jtr/v1
kind: Defaults
selector: {env: prod, region: tokyo}
spec:
  mode: enforce
  security: {ipWhitelist: [203.0.113.9]}
"""
SERVER = """
apiVersion: jtr/v1
kind: TradingServer
metadata: {name: tokyo-1, labels: {env: prod, region: tokyo}}
spec:
  url: https://tokyo-1.test
  security: {onUnverifiable: warn}
"""
OTHER = SERVER.replace("tokyo-1", "osaka-1").replace("region: tokyo", "region: osaka")


@pytest.fixture
def give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Give:
    monkeypatch.chdir(tmp_path)

    def give(text: str) -> Effective:
        Path("a.yaml").write_text(text, encoding="utf-8")
        return load(["a.yaml"]).effective["tokyo-1"]

    return give


def origins(effective: Effective) -> dict[str, tuple[str, str | None]]:
    return {row.path: (row.value, row.from_default) for row in effective.values}


def test_maps_merge_lists_replace_and_the_nearest_wins(give: Give) -> None:
    effective = give(f"{GENERAL}---{SELECTIVE}---{SERVER}---{OTHER}")

    assert effective.as_document()["spec"] == {
        "accessSecret": "vault:secret/tokyo-1#access",
        "mode": "enforce",
        "security": {"ipWhitelist": ["203.0.113.9"], "onUnverifiable": "warn"},
        "exchanges": {"bybit": {"credentials": "vault:secret/tokyo-1/bybit"}},
        "url": "https://tokyo-1.test",
    }
    other = load(["a.yaml"]).effective["osaka-1"].as_document()["spec"]
    assert other["mode"] == "observe"
    assert other["security"]["ipWhitelist"] == ["203.0.113.1", "203.0.113.2"]


def test_the_order_of_the_documents_means_nothing(give: Give) -> None:
    first = give(f"{GENERAL}---{SELECTIVE}---{SERVER}").as_document()

    assert first == give(f"{SERVER}---{SELECTIVE}---{GENERAL}").as_document()


def test_each_value_says_where_it_comes_from(give: Give) -> None:
    effective = give(f"{GENERAL}---{SELECTIVE}---{SERVER}")
    found = origins(effective)

    assert found["spec.url"] == ("https://tokyo-1.test", None)
    assert found["spec.accessSecret"] == ("vault:secret/tokyo-1#access", "all")
    assert found["spec.mode"] == ("enforce", "a.yaml:13")
    assert found["spec.security.onUnverifiable"] == ("warn", None)
    assert found["spec.security.ipWhitelist"] == ('["203.0.113.9"]', "a.yaml:13")
    assert found["spec.exchanges.bybit.credentials"] == ("vault:secret/tokyo-1/bybit", "all")
    assert found["spec.account"] == ("0", BUILT_IN)
    assert found["spec.robots.onCredentialChange"] == ("leave", BUILT_IN)
    assert "spec.cache.expiresAfter" not in found
    places = {row.path: row.origin for row in effective.values}
    assert str(places["spec.accessSecret"]) == "a.yaml:6:17"
    assert places["spec.account"] == NOWHERE


def test_the_state_holds_what_was_merged(give: Give) -> None:
    give(f"{GENERAL}---{SELECTIVE}---{SERVER}")
    (server,) = load(["a.yaml"]).state.servers

    assert server.mode is Mode.ENFORCE
    assert server.access_secret == SecretRef.parse("vault:secret/tokyo-1#access")
    assert [(e.code, str(e.secret)) for e in server.exchanges] == [
        ("bybit", "vault:secret/tokyo-1/bybit")
    ]
    assert server.has_security
    assert server.windows == ()


def test_an_exchange_without_credentials_only_completes_servers_that_name_it(give: Give) -> None:
    named = SERVER + '  exchanges: {okx: {credentials: "vault:secret/own/okx"}}\n'

    assert "okx" not in give(f"{GENERAL}---{SERVER}").as_document()["spec"]["exchanges"]
    assert give(f"{GENERAL}---{named}").as_document()["spec"]["exchanges"]["okx"] == {
        "credentials": "vault:secret/own/okx",
        "security": {"maxKeyAge": "30d"},
    }


def test_a_server_can_be_without_a_shared_exchange(give: Give) -> None:
    give(f"{GENERAL}---{SERVER}  exchanges: {{bybit: {{state: absent}}}}\n")
    (server,) = load(["a.yaml"]).state.servers

    assert [(e.code, e.presence, e.references) for e in server.exchanges] == [
        ("bybit", Presence.ABSENT, ())
    ]


def test_a_disagreement_is_told_once_for_many_servers(give: Give) -> None:
    rival = SELECTIVE.replace("mode: enforce", "mode: observe")
    with pytest.raises(InvalidConfig, match=r"a\.yaml:13:3: these Defaults and those at") as raised:
        give(f"{SELECTIVE}---{rival}---{SERVER}---{SERVER.replace('tokyo-1', 'tokyo-2')}")

    assert len(raised.value.problems) == 1


def test_disagreeing_defaults_that_never_meet_are_fine(give: Give) -> None:
    rival = SELECTIVE.replace("mode: enforce", "mode: observe").replace("tokyo", "osaka")

    assert give(f"{SELECTIVE}---{rival}---{SERVER}").as_document()["spec"]["mode"] == "enforce"


def test_nothing_but_the_two_names_is_substituted(give: Give) -> None:
    owner = SERVER.replace("metadata: {", 'metadata: {owner: "{server} $HOME {{x}}", ')

    assert give(owner).as_document()["metadata"]["owner"] == "{server} $HOME {{x}}"


# ── whose servers they are for ───────────────────────────────────────────────────────────────


def in_folders(files: dict[str, str]) -> None:
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, "utf-8")


def test_they_hold_for_their_own_directory_and_below_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    observe = "apiVersion: jtr/v1\nkind: Defaults\nspec: {mode: observe}\n"
    heals = "apiVersion: jtr/v1\nkind: Defaults\nspec: {selfHeal: true}\n"
    server = SERVER.replace("  security: {onUnverifiable: warn}\n", "  exchanges: {}\n")
    in_folders(
        {
            "all.yaml": heals,
            "a/server.yaml": server.replace("tokyo-1", "a-1"),
            "a/deep/server.yaml": server.replace("tokyo-1", "a-2"),
            "a/defaults.yaml": observe,
            "ab/server.yaml": server.replace("tokyo-1", "ab-1"),
            "top.yaml": server.replace("tokyo-1", "top-1"),
        }
    )

    servers = {server.name: server for server in load(["."]).state.servers}

    assert {name for name in servers if servers[name].mode is Mode.OBSERVE} == {"a-1", "a-2"}
    assert all(server.self_heal for server in servers.values())
    assert load(["ab", "a"]).state.servers[2].mode is Mode.ENFORCE


def test_no_link_takes_them_to_another_teams_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    elsewhere = "apiVersion: jtr/v1\nkind: Defaults\nspec: {accessSecret: vault:secret/b#x}\n"
    in_folders({"a/server.yaml": f"{SERVER}  exchanges: {{}}\n", "b/defaults.yaml": elsewhere})
    Path("a/link.yaml").symlink_to("../b/defaults.yaml")
    Path("b/link.yaml").symlink_to("../a/server.yaml")

    (server,) = load(["."]).state.servers

    assert server.access_secret is None


def test_a_suspension_is_one_persons_word(give: Give) -> None:
    theirs = 'suspend: {reason: theirs, by: b, until: "2030-01-01T00:00:00Z"}'
    shared = f"apiVersion: jtr/v1\nkind: Defaults\nspec:\n  {theirs}\n"
    effective = give(f"{shared}---{SERVER}  exchanges: {{}}\n  suspend: {{reason: mine, by: a}}\n")

    assert effective.as_document()["spec"]["suspend"] == {"reason": "mine", "by": "a"}


def test_what_another_file_gives_is_known_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("server.yaml").write_text(f"{SERVER}  accessSecret: vault:secret/mine#x\n", "utf-8")
    Path("shared.yaml").write_text(GENERAL, "utf-8")

    (server,) = load(["server.yaml", "shared.yaml"]).state.servers

    assert [(what, str(where)) for what, where in server.borrowed] == [
        ("exchanges.bybit.credentials", "shared.yaml:10:26"),
    ]
