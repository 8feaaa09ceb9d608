"""`jtr init`: settings and a first document, by flags or by questions; the printed commands run."""

import shlex
from pathlib import Path

import pytest
import yaml

from tests.e2e.terminal import Command
from tests.support.rig import Rig


def home(rig: Rig) -> Path:
    """Where the settings go by default, in a home without any."""
    rig.environment.pop("JTR_SETTINGS")
    return rig.home / "config" / "jtr" / "settings.yaml"


def words(rig: Rig, **changes: str) -> list[str]:
    """A whole command line for the server tokyo-1 of the rig; an empty value leaves one out."""
    flags = {
        "name": "tokyo-1",
        "url": rig.servers["tokyo-1"].url if rig.servers else "https://tokyo-1.internal:8443",
        "exchange": "bybit",
        "vault-address": rig.bao.address,
        "paths": f"secret/{rig.path('{server}/{exchange}')}",
        "access-secret": f"secret/{rig.path('{server}')}#access_secret",
        "out": str(rig.home / "servers"),
    }
    changed = {**flags, **{name.replace("_", "-"): value for name, value in changes.items()}}
    return [word for name, value in changed.items() if value for word in (f"--{name}", value)]


def hurry(place: Path) -> None:
    """Let no test wait until a secret has settled."""
    with place.open("a", encoding="utf-8") as settings:
        settings.write("durations: {settle: 1ms}\n")


def next_commands(text: str) -> list[list[str]]:
    """The commands that were printed to be typed."""
    lines = text.partition("Next:\n")[2].splitlines()
    return [shlex.split(line) for line in lines if line.startswith("  jtr ")]


def test_the_commands_that_it_ends_with_run(rig: Rig) -> None:
    place = home(rig)
    rig.server()
    rig.rotate()

    ran = rig.jtr("init", *words(rig))
    hurry(place)
    done = [rig.jtr(*command[1:]) for command in next_commands(ran.out)]

    assert ran.code == 0, ran
    assert place.stat().st_mode & 0o777 == 0o600
    assert len(done) == 2
    assert [one.code for one in done] == [0, 0], done
    assert "+ bybit  write" in done[1].out
    assert "VAULT_TOKEN" in place.read_text("utf-8")  # where it comes from, not what it is
    assert rig.environment["VAULT_TOKEN"] not in place.read_text("utf-8")


def test_settings_of_ones_choice_are_named_in_the_commands(rig: Rig) -> None:
    rig.server()
    rig.rotate()
    place = rig.home / "my settings" / "jtr.yaml"

    ran = rig.jtr("init", *words(rig), "--settings", str(place))
    hurry(place)
    done = [rig.jtr(*command[1:]) for command in next_commands(ran.out)]

    assert place.exists()
    assert [one.code for one in done] == [0, 0], done


def test_a_token_file_is_named_never_read(rig: Rig) -> None:
    place = home(rig)
    ran = rig.jtr("init", *words(rig, token_file="~/.config/jtr/token"))

    assert ran.code == 0, ran
    settings = yaml.safe_load(place.read_text("utf-8"))
    assert settings["vault"]["auth"] == {
        "method": "token-file",
        "tokenFile": "~/.config/jtr/token",
    }


def test_on_a_terminal_it_asks_for_what_is_missing(rig: Rig) -> None:
    place = home(rig)
    rig.server()
    rig.rotate()
    missing = words(rig, name="", url="", exchange="", vault_address="")
    with Command(rig, "init", *missing, terminal=True) as command:
        command.answer("Vault's address", "")  # as VAULT_ADDR has it
        command.answer("Name of the first server", "tokyo-1")
        command.answer("Its URL", rig.servers["tokyo-1"].url)
        command.answer("Its exchanges", "bybit, okx")
        code = command.ended()

    assert code == 0
    assert yaml.safe_load(place.read_text("utf-8"))["vault"]["address"] == rig.bao.address
    document = yaml.safe_load((rig.home / "servers" / "tokyo-1.yaml").read_text("utf-8"))
    assert list(document["spec"]["exchanges"]) == ["bybit", "okx"]


@pytest.mark.parametrize("which", ["settings", "document", "system"])
def test_it_writes_over_nothing(rig: Rig, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, document = home(rig), rig.home / "servers" / "tokyo-1.yaml"
    system = rig.home / "etc.yaml"
    monkeypatch.setattr("reconciler.settings.paths.SYSTEM_FILE", str(system))
    there = {"settings": place, "document": document, "system": system}[which]
    there.parent.mkdir(parents=True, exist_ok=True)
    there.write_text("# mine\n", "utf-8")

    ran = rig.jtr("init", *words(rig))

    assert ran.code == 64
    assert "is there already" in ran.err
    assert there.read_text("utf-8") == "# mine\n"
    assert [path.exists() for path in (place, document)] == [
        path == there for path in (place, document)
    ]


@pytest.mark.parametrize(
    ("changes", "said", "code"),
    [
        ({"name": ""}, "--name", 64),
        ({"url": ""}, "--url", 64),
        ({"name": "../x"}, "no name of a server", 64),
        ({"url": "http://x.internal:1"}, "would carry every key in clear", 3),
        ({"url": "https://u:s3cr3tv4lue@x.internal"}, "never carries a user", 3),
        ({"exchange": "a/b"}, "exchange", 3),
        ({"access_secret": "s3cr3tv4lue"}, "never the secret", 64),
        ({"paths": "secret/jt"}, "{exchange}", 64),
        ({"token_file": "hvs.s3cr3tv4lue"}, "names a file", 64),
        ({"vault_address": "http://vault.internal:8200"}, "the Vault token in clear", 3),
        ({"vault_address": "nonsense"}, "URL", 3),
    ],
)
def test_a_mistake_writes_nothing(rig: Rig, changes: dict[str, str], said: str, code: int) -> None:
    place = home(rig)

    ran = rig.jtr("init", *words(rig, **changes))

    assert ran.code == code, ran
    assert said in ran.err
    assert "s3cr3tv4lue" not in ran.text
    assert not place.exists()
    assert not (rig.home / "servers").exists()


def test_settings_beside_the_documents_are_refused(rig: Rig) -> None:
    place = rig.home / "servers" / "settings.yaml"
    ran = rig.jtr("init", *words(rig), "--settings", str(place))

    assert ran.code == 64
    assert "lie with the desired state" in ran.err
    assert not place.parent.exists()
