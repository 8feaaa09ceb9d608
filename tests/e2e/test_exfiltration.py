"""
Can whoever merges a document have a secret sent where it does not belong?

Each way is tried with no settings, with those of the README and with a team's policy.  The oracle
are the servers: what they heard.  Nobody is there to agree to a new recipient.
"""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.plan.inputs import Consents
from reconciler.policy.load import load_policy
from reconciler.policy.model import ANYTHING, Policy
from tests.support.exfiltration import (
    ASIA,
    EUROPE,
    EVIL,
    LEGITIMATE,
    LOCAL,
    NEAR,
    Situation,
    document,
    value,
)

Documents = dict[str, Any]
Attack = Callable[[Documents, Path], None]
NOBODY = Consents()
MINE = "desk-asia/tokyo-1.yaml"  # whoever attacks may write below desk-asia/
THEIRS = "desk-europe/osaka-1.yaml"

WANTED = {
    "another team's key": "secret/jt/osaka-1/bybit",
    "another team's login": "secret/jt/osaka-1",
    "nobody's key": "secret/jt/spare/bybit",
    "the key of a longer name": "secret/jt/tokyo-10/bybit",
    "infrastructure": "secret/infra/root",
    "another mount": "team/kv//jt/tokyo-1",
}
WHERE = {"to its own server": ASIA, "far away": EVIL, "nearby": NEAR, "to this host": LOCAL}


def whole(spec: dict[str, Any], path: str) -> None:
    spec["exchanges"]["bybit"] = {"credentials": f"vault:{path}"}


def another_exchange(spec: dict[str, Any], path: str) -> None:
    spec["exchanges"]["okx"] = {"credentials": f"vault:{path}"}


def one_field(spec: dict[str, Any], path: str) -> None:
    spec["exchanges"]["bybit"] = {
        "credentials": {
            "apiKey": "vault:secret/jt/tokyo-1/bybit#apiKey@1",
            "secret": f"vault:{path}#secret@1",
        }
    }


def take_over(spec: dict[str, Any], path: str) -> None:
    spec["exchanges"]["bybit"] = {"credentials": f"vault:{path}", "takeOver": True}


def login(spec: dict[str, Any], path: str) -> None:
    spec["accessSecret"] = f"vault:{path}#access_secret"


def login_by_a_key(spec: dict[str, Any], path: str) -> None:
    spec["accessSecret"] = f"vault:{path}#apiKey"


def token(spec: dict[str, Any], path: str) -> None:
    spec["accessToken"] = f"vault:{path}#secret"


WAYS = (whole, another_exchange, one_field, take_over, login, login_by_a_key, token)


def cases() -> Iterator[tuple[str, Attack]]:
    """Every secret in every way to every place."""
    for what, path in WANTED.items():
        for where, url in WHERE.items():
            for way in WAYS:
                yield f"{what} {where} as {way.__name__}", _plain(way, path, url)
        yield f"{what} by Defaults", _defaults({"exchanges": _exchanges(path)})
        yield f"{what} by Defaults as login", _defaults({"accessSecret": f"vault:{path}#secret"})


def _plain(way: Callable[[dict[str, Any], str], None], path: str, url: str) -> Attack:
    def attack(documents: Documents, _: Path) -> None:
        if url == ASIA:
            way(documents[MINE]["spec"], path)
        else:
            new = document("tokyo-2", url, "secret/jt/tokyo-1")
            del new["spec"]["accessSecret"]
            way(new["spec"], path)
            documents["desk-asia/tokyo-2.yaml"] = new

    return attack


def _exchanges(path: str) -> dict[str, Any]:
    return {"bybit": {"credentials": f"vault:{path}"}}


def _defaults(spec: dict[str, Any], place: str = "desk-asia/defaults.yaml") -> Attack:
    def attack(documents: Documents, _: Path) -> None:
        documents[place] = {"apiVersion": "jtr/v1", "kind": "Defaults", "spec": spec}
        for key in spec:
            documents[MINE]["spec"].pop(key, None)
        documents[MINE]["spec"].setdefault("exchanges", {"bybit": {"security": {}}})

    return attack


# ── who is who ───────────────────────────────────────────────────────────────────────────────


def moved(url: str) -> Attack:
    def attack(documents: Documents, _: Path) -> None:
        documents[MINE]["spec"]["url"] = url

    return attack


def moved_and_renamed(documents: Documents, _: Path) -> None:
    documents[MINE]["metadata"]["name"] = "tokyo-2"
    documents[MINE]["spec"]["url"] = NEAR


def renamed_with_a_new_machine(documents: Documents, _: Path) -> None:
    """The old server keeps its document under another name; its own name goes to a new one."""
    documents["desk-asia/tokyo-2.yaml"] = document("tokyo-2", ASIA, "secret/jt/tokyo-1")
    documents[MINE]["spec"]["url"] = NEAR


def addresses_swapped(documents: Documents, _: Path) -> None:
    documents[MINE]["spec"]["url"], documents[THEIRS]["spec"]["url"] = EUROPE, ASIA


def names_swapped(documents: Documents, _: Path) -> None:
    documents[MINE]["metadata"]["name"] = "osaka-1"
    documents[THEIRS]["metadata"]["name"] = "tokyo-1"


def keys_swapped(documents: Documents, _: Path) -> None:
    mine, theirs = documents[MINE]["spec"], documents[THEIRS]["spec"]
    mine["exchanges"], theirs["exchanges"] = theirs["exchanges"], mine["exchanges"]


def logins_swapped(documents: Documents, _: Path) -> None:
    mine, theirs = documents[MINE]["spec"], documents[THEIRS]["spec"]
    mine["accessSecret"], theirs["accessSecret"] = theirs["accessSecret"], mine["accessSecret"]


def another_name_for_their_server(documents: Documents, _: Path) -> None:
    """Their document is replaced by one of mine, for their server, with my secrets."""
    del documents[THEIRS]
    documents["desk-asia/tokyo-2.yaml"] = document("tokyo-2", EUROPE, "secret/jt/tokyo-1")


def their_name_in_my_directory(documents: Documents, _: Path) -> None:
    del documents[THEIRS]
    documents["desk-asia/osaka-1.yaml"] = document("osaka-1", NEAR)


def their_name_at_my_server(documents: Documents, _: Path) -> None:
    del documents[THEIRS]
    documents[MINE] = document("osaka-1", ASIA)


def another_account(documents: Documents, _: Path) -> None:
    documents["desk-asia/tokyo-2.yaml"] = document(
        "tokyo-2", EUROPE, "secret/jt/tokyo-1", account="1"
    )


def a_second_document_with_the_old_address(documents: Documents, _: Path) -> None:
    """A hold for a changed address must not be dropped because another one carries the old one."""
    documents[MINE]["spec"]["url"] = EVIL
    documents["desk-asia/decoy.yaml"] = document("decoy", ASIA, "secret/jt/tokyo-1")


def two_documents_of_one_file(documents: Documents, _: Path) -> None:
    documents[MINE] = [documents[MINE], document("tokyo-2", NEAR, "secret/jt/osaka-1")]


def deleted_and_made_anew(documents: Documents, _: Path) -> None:
    del documents[MINE]
    documents["desk-asia/new.yaml"] = document("tokyo-1", NEAR)


def defaults_for_their_server(documents: Documents, _: Path) -> None:
    documents["desk-asia/defaults.yaml"] = {
        "apiVersion": "jtr/v1",
        "kind": "Defaults",
        "spec": {"exchanges": {"okx": {"credentials": "vault:secret/jt/tokyo-1/bybit"}}},
    }


def defaults_with_a_selector(documents: Documents, _: Path) -> None:
    documents[THEIRS]["metadata"]["labels"] = {"env": "prod"}
    defaults_for_their_server(documents, Path())
    documents["desk-asia/defaults.yaml"]["selector"] = {"env": "prod"}


# ── files ────────────────────────────────────────────────────────────────────────────────────


def a_link_into_their_directory(documents: Documents, folder: Path) -> None:
    """My document lies in their directory by a link of its directory."""
    documents["desk-asia/x/osaka-2.yaml"] = document("osaka-2", NEAR, "secret/jt/osaka-1")
    (folder / "desk-europe").mkdir(parents=True, exist_ok=True)
    (folder / "desk-europe" / "x").symlink_to(folder / "desk-asia" / "x")


def a_link_as_their_file(documents: Documents, folder: Path) -> None:
    documents["desk-asia/evil.yaml"] = document("osaka-1", NEAR)
    del documents[THEIRS]
    (folder / "desk-europe").mkdir(parents=True, exist_ok=True)
    (folder / "desk-europe" / "osaka-1.yaml").symlink_to(folder / "desk-asia" / "evil.yaml")


def a_link_out_of_the_tree(_: Documents, folder: Path) -> None:
    outside = folder.parent / "outside.yaml"
    outside.write_text(yaml.safe_dump(document("osaka-2", NEAR, "secret/jt/osaka-1")), "utf-8")
    (folder / "desk-asia").mkdir(parents=True, exist_ok=True)
    (folder / "desk-asia" / "link.yaml").symlink_to(outside)


def a_directory_called_like_theirs(documents: Documents, _: Path) -> None:
    documents["desk-asia/desk-europe/osaka-2.yaml"] = document("osaka-2", NEAR, "secret/jt/osaka-1")


def a_work_tree_of_its_own(documents: Documents, folder: Path) -> None:
    """A `.git` further down must not make a place look like another one."""
    (folder / "desk-asia" / "sub" / ".git").mkdir(parents=True)
    documents["desk-asia/sub/desk-europe/osaka-2.yaml"] = document(
        "osaka-2", NEAR, "secret/jt/osaka-1"
    )


def a_policy_in_the_tree(documents: Documents, _: Path) -> None:
    documents["desk-asia/policy.yaml"] = {"apiVersion": "jtr/v1", "kind": "Policy", "rules": []}


# ── spellings ────────────────────────────────────────────────────────────────────────────────

PATHS = (
    "secret/jt/tokyo-1/../osaka-1/bybit",
    "secret/jt/tokyo-1/../../infra/root",
    "secret/jt/./osaka-1/bybit",
    "secret/jt/tokyo-1/%2e%2e/osaka-1/bybit",
    "secret/jt//tokyo-1/bybit",
    "secret//jt/osaka-1/bybit",
    "secret//infra/root",
    "secret/jt/tokyo-1/..%2fosaka-1%2fbybit",
    "secret/jt/tokyo-1/bybit/../../osaka-1/bybit",
    "secret/data/infra/root",
    "sys/mounts",
    "secret/jt/tokyo-1\\..\\osaka-1",
    "secret/jt/osaka-1/bybit#",
    "secret/jt/tokyo-1/ /../osaka-1",
    "secret/jt/{server}/bybit",
    "SECRET/jt/osaka-1/bybit",
    "secret/JT/osaka-1/bybit",
    "/secret/jt/osaka-1/bybit",
    "secret/jt/osaka-1/bybit/",
    "secret/jt/osaka-1/bybit?version=1",
    "secret/jt/osaka-1/bybit@1@2",
    "secret/jt/tokyo-1/…/osaka-1",
)
URLS = (
    "https://tokyo-1.internal:8443@evil.example",
    "https://tokyo-1.internal:8443%40evil.example",
    "https://evil.example#https://tokyo-1.internal:8443",
    "https://evil.example?https://tokyo-1.internal:8443",
    "https://evil.example\\.internal:8443",
    "https://evil.example/.internal:8443",
    "https://EVIL.example",
    "https://evil.example.",
    "https://tokyo-1.internal:8443/../..",
    "https://tokyo-1.internal.evil.example:8443",
    "https://[evil.example]:8443",
    "http://127.0.0.1[::1]:18066",
    "http://127.0.0.1:18066",
    "http://localhost:18066",
    "http://evil.example",
    "https://tokyo-1.internal:08443",
    "https://tokyo-1.internal:8443\n@evil.example",
    "https://tokyo-1.internal\t:8443",
    "https://tokyo-1\u2024internal:8443",
    "https:evil.example",
    "//evil.example",
    "ftp://evil.example",
    "https://evil.internal:8443",
)


def _path(text: str) -> Attack:
    def attack(documents: Documents, _: Path) -> None:
        documents[MINE]["spec"]["exchanges"]["bybit"] = {"credentials": f"vault:{text}"}

    return attack


WHO = (
    moved_and_renamed,
    renamed_with_a_new_machine,
    addresses_swapped,
    names_swapped,
    keys_swapped,
    logins_swapped,
    another_name_for_their_server,
    their_name_in_my_directory,
    their_name_at_my_server,
    another_account,
    a_second_document_with_the_old_address,
    two_documents_of_one_file,
    deleted_and_made_anew,
    defaults_for_their_server,
    defaults_with_a_selector,
    a_link_into_their_directory,
    a_link_as_their_file,
    a_link_out_of_the_tree,
    a_directory_called_like_theirs,
    a_work_tree_of_its_own,
    a_policy_in_the_tree,
)
CASES: Mapping[str, Attack] = {
    **dict(cases()),
    **{attack.__name__: attack for attack in WHO},
    **{f"the path {text!a}": _path(text) for text in PATHS},
    **{f"the address {text!a}": moved(text) for text in URLS},
}

TEAMS = """
apiVersion: jtr/v1
kind: Policy
rules:
  - name: asia
    servers: {names: [tokyo-*], urls: ["https://{server}.internal:8443"], files: ["desk-asia/**"]}
    secrets: ["secret/jt/{server}", "secret/jt/{server}/**"]
    actions: [all]
  - name: europe
    servers: {names: [osaka-*], urls: ["https://{server}.internal:8443"], files: ["desk-europe/**"]}
    secrets: ["secret/jt/{server}", "secret/jt/{server}/**"]
    actions: [all]
"""


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Policy]:
    """No settings, those of the README, and a team's policy."""
    path = tmp_path_factory.mktemp("policy") / "policy.yaml"
    path.write_text(TEAMS, "utf-8")
    return {
        "no settings": ANYTHING,
        "README": Policy.of_lists(("https://*.internal:8443",), ("secret/jt/**",)),
        "teams": load_policy(str(path)),
    }


@pytest.fixture(scope="module")
def begun(
    policies: Mapping[str, Policy], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Situation]:
    """The situation after both teams applied what is theirs, by settings."""
    found = {}
    for name, policy in policies.items():
        folder = tmp_path_factory.mktemp("begun")
        write(folder, dict(LEGITIMATE))
        found[name] = Situation().begun(folder, policy)
    return found


def write(folder: Path, documents: Documents) -> None:
    for name, body in documents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        many = body if isinstance(body, list) else [body]
        path.write_text(yaml.safe_dump_all(many, allow_unicode=True), "utf-8")


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 150


@pytest.mark.parametrize("settings", ["no settings", "README", "teams"])
@pytest.mark.parametrize("attack", CASES.values(), ids=CASES.keys())
def test_no_secret_goes_where_it_does_not_belong(
    attack: Attack,
    settings: str,
    policies: Mapping[str, Policy],
    begun: Mapping[str, Situation],
    tmp_path: Path,
) -> None:
    documents = deepcopy(dict(LEGITIMATE))
    folder = tmp_path / "documents"
    folder.mkdir()
    attack(documents, folder)
    write(folder, documents)

    _, servers = begun[settings].attack(folder, policies[settings], NOBODY)

    assert {url: found for url, server in servers.items() if (found := server.foreign())} == {}


@pytest.mark.parametrize("settings", ["no settings", "README"])
def test_positive_control_with_a_persons_yes_it_is_sent(
    settings: str, policies: Mapping[str, Policy], begun: Mapping[str, Situation], tmp_path: Path
) -> None:
    documents = deepcopy(dict(LEGITIMATE))
    whole(documents[MINE]["spec"], "secret/jt/osaka-1/bybit")
    write(tmp_path, documents)

    agreed = Consents(recipients=frozenset(["tokyo-1"]))
    _, servers = begun[settings].attack(tmp_path, policies[settings], agreed)

    assert value("secret/jt/osaka-1/bybit", "apiKey") in servers[ASIA].foreign()


def test_a_persons_yes_is_not_above_a_policy(
    policies: Mapping[str, Policy], begun: Mapping[str, Situation], tmp_path: Path
) -> None:
    documents = deepcopy(dict(LEGITIMATE))
    whole(documents[MINE]["spec"], "secret/jt/osaka-1/bybit")
    write(tmp_path, documents)

    agreed = Consents(recipients=frozenset(["tokyo-1"]))
    _, servers = begun["teams"].attack(tmp_path, policies["teams"], agreed)

    assert servers[ASIA].foreign() == []


def test_positive_control_the_rotation_of_ones_own_key_arrives(
    policies: Mapping[str, Policy], begun: Mapping[str, Situation], tmp_path: Path
) -> None:
    """The matrix does not pass because nothing is ever sent."""
    write(tmp_path, dict(LEGITIMATE))
    for settings, situation in begun.items():
        kept = {name: text for name, text in situation.stored[ASIA].items() if "secret" not in name}
        emptied = Situation(situation.ledger, {**situation.stored, ASIA: kept})
        agreed = Consents(drift=True)
        _, servers = emptied.attack(tmp_path, policies[settings], agreed)
        assert value("secret/jt/tokyo-1/bybit", "apiKey") in servers[ASIA].heard, settings
