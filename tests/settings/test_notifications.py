"""Whom a controller tells what: read from the settings, or refused with the place and a remedy."""

from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.bootstrap import load_settings
from reconciler.documents import schema
from reconciler.errors import InvalidConfig
from reconciler.notifications.events import AlertSeverity, Topic
from reconciler.notifications.senders import kinds, telegram
from reconciler.settings import paths
from reconciler.settings.notifications import NotificationSettings
from tests.support.leaks import Watch

Read = Callable[[str], tuple[NotificationSettings, ...]]
SIGNED = "kind: webhook, name: a, secretFile: key"


@pytest.fixture(autouse=True)
def nothing_of_this_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "SYSTEM_FILE", str(tmp_path / "etc" / "settings.yaml"))


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(text: str) -> tuple[NotificationSettings, ...]:
        # Not in tmp_path itself: that is searched for the secrets which some of these hold.
        path = tmp_path / "private" / "settings.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return load_settings(str(path), {"HOME": str(tmp_path / "home")}, []).notifications

    return read


def refusal(read: Read, text: str) -> str:
    with pytest.raises(InvalidConfig) as raised:
        read(text)
    return str(raised.value)


def test_nobody_is_told_by_default(read: Read) -> None:
    assert read("role: ci\n") == ()
    assert read("notifications: []\n") == ()


def test_all_kinds(read: Read, tmp_path: Path) -> None:
    base = str(tmp_path / "private")
    found = read(
        "notifications:\n"
        "  - {kind: webhook, name: pager, url: https://alerts.test/jtr, secretFile: key,\n"
        "     caFile: ca.pem, severity: critical, topics: [harm, reboot owed], owners: [asia]}\n"
        "  - {kind: slack, name: desk, urlFile: ~/hook}\n"
        '  - {kind: telegram, name: me, tokenFile: /t, chatId: "-100", apiUrl: "http://[::1]:1/"}\n'
        '  - {kind: telegram, name: you, tokenFile: /t, chatId: "@desk"}\n'
    )

    assert found[0] == NotificationSettings(
        "webhook",
        "pager",
        {"url": "https://alerts.test/jtr", "secretFile": f"{base}/key"},
        ca_file=f"{base}/ca.pem",
        topics=("harm", "reboot owed"),
        severity="critical",
        owners=("asia",),
    )
    assert found[1] == NotificationSettings(
        "slack", "desk", {"urlFile": str(tmp_path / "home" / "hook")}
    )
    assert found[2].own == {"tokenFile": "/t", "chatId": "-100", "apiUrl": "http://[::1]:1/"}
    assert found[3].own == {"tokenFile": "/t", "chatId": "@desk"}
    assert found[3].severity == "warning"


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ("kind: mail, name: a", "must be one of webhook, slack, telegram"),
        ("kind: slack", "notifications[0] has no name"),
        ("kind: slack, name: Desk Asia, urlFile: f", "small letters, digits"),
        ("kind: slack, name: a", "slack needs urlFile; add urlFile"),
        ("kind: slack, name: a, url: 'https://x.test'", "a hook's URL is a secret"),
        ("kind: slack, name: a, urlFile: f, chatId: '1'", "slack has no use for chatId"),
        ("kind: telegram, name: a, tokenFile: f", "telegram needs chatId"),
        ("kind: telegram, name: a, chatId: '1'", "telegram needs tokenFile"),
        ("kind: telegram, name: a, tokenFile: f, chatId: 1", "quote it"),
        ("kind: telegram, name: a, tokenFile: f, chatId: x", "a chat's number or @CHANNEL"),
        (
            "kind: telegram, name: a, tokenFile: f, chatId: '1', apiUrl: 'http://x.test'",
            "in clear; use https://",
        ),
        ("kind: webhook, name: a, url: 'https://x.test'", "webhook needs secretFile"),
        (SIGNED, "webhook needs either url or urlFile"),
        (f"{SIGNED}, url: 'https://x.test', urlFile: f", "webhook needs either url or urlFile"),
        (f"{SIGNED}, url: 'http://x.test'", "would carry what people are told in clear"),
        (f"{SIGNED}, url: 'https://QwErTy@x.test'", "may be a credential"),
        (f"{SIGNED}, url: 'https://x.test/?sig=QwErTy'", "may be a credential"),
        (f"{SIGNED}, url: ftp://x.test", "https://HOST:PORT"),
        (f"{SIGNED}, url: 'https://x.test', tokenFile: f", "webhook has no use for tokenFile"),
        (f"{SIGNED}, url: 'https://x.test', secret: QwErTy", "secret is not known"),
        (f"{SIGNED}, url: 'https://x.test', topics: [harms]", "did you mean harm?"),
        (f"{SIGNED}, url: 'https://x.test', topics: []", "is empty"),
        (f"{SIGNED}, url: 'https://x.test', severity: fatal", "must be one of info, warning"),
        (f"{SIGNED}, url: 'https://x.test', owners: [a, a]", "names something twice"),
    ],
)
def test_wrong_targets(read: Read, item: str, words: str) -> None:
    message = refusal(read, f"notifications:\n  - {{{item}}}\n")

    assert words in message
    assert "settings.yaml:2:" in message
    assert "QwErTy" not in message


def test_a_hook_s_url_in_clear_is_refused_without_being_repeated(read: Read, watch: Watch) -> None:
    hook = watch.secret("base62")
    where = f"https://hooks.slack.com/services/T0000/B0000/{hook}"

    message = refusal(read, f"notifications: [{{{SIGNED}, url: '{where}'}}]\n")

    assert "may be a credential" in message
    watch.search("the message", message)
    assert not watch.found


def test_all_mistakes_at_once_and_every_name_once(read: Read) -> None:
    message = refusal(
        read,
        "notifications:\n"
        "  - {kind: slack, name: a, urlFile: f}\n"
        "  - {kind: slack, name: a, urlFile: g}\n"
        "  - {kind: telegram, name: b}\n",
    )

    assert ":3:25: the name a is taken at " in message
    assert message.count("telegram needs") == 2


def test_the_schema_knows_the_controller_s_words() -> None:
    about = schema.document(schema.SETTINGS)["properties"]["notifications"]["items"]["properties"]

    assert about["topics"]["items"]["enum"] == [str(topic) for topic in Topic]
    assert about["severity"]["enum"] == [str(severity) for severity in AlertSeverity]
    assert about["kind"]["enum"] == ["webhook", "slack", "telegram"]
    assert sorted(about["kind"]["enum"]) == kinds()
    assert about["apiUrl"]["default"] == telegram.API_URL
