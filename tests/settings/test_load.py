"""The operator's settings: where they come from, who wins, what is refused."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.bootstrap import load_settings
from reconciler.errors import Exit, InvalidConfig, UsageError
from reconciler.model.desired import DesiredServer
from reconciler.model.patterns import glob_matches
from reconciler.model.references import SecretPath, SecretRef
from reconciler.model.source import NOWHERE
from reconciler.settings import paths
from reconciler.settings.git import ProposeSettings
from reconciler.settings.model import (
    AuthMethod,
    Role,
    Settings,
    SqliteLedger,
    VaultLedger,
)
from tests.support.canaries import canaries, find_leaks

Read = Callable[..., Settings]


@pytest.fixture(autouse=True)
def nothing_of_this_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "SYSTEM_FILE", str(tmp_path / "etc" / "settings.yaml"))


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(text: str = "role: ci\n", **environ: str) -> Settings:
        path = tmp_path / "operator" / "settings.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return load_settings(str(path), {"HOME": str(tmp_path / "home"), **environ}, [])

    return read


def refusal(read: Read, text: str, **environ: str) -> str:
    with pytest.raises((InvalidConfig, UsageError)) as raised:
        read(text, **environ)
    return str(raised.value)


def test_the_example_is_valid() -> None:
    example = Path(__file__).parents[2] / "examples" / "settings.yaml"
    found = load_settings(str(example), {}, [])

    assert found.role is Role.CI
    assert found.ledger == SqliteLedger("/var/lib/jtr/ledger.db")
    assert found.vault.auth.method is AuthMethod.APPROLE
    assert found.timeouts.settle_total == 120
    assert found.fingerprint_key == SecretRef.parse("vault:jtr/fingerprint#key")
    assert found.source == str(example)


def test_without_a_file_the_environment_is_enough(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "VAULT_ADDR": "https://v.test", "VAULT_TOKEN": "hvs.x-y_z"}
    found = load_settings(None, environ, [])

    assert found.source is None
    assert found.vault.address == "https://v.test"
    assert found.vault.auth.method is AuthMethod.TOKEN
    assert found.vault.auth.token is not None
    assert found.vault.auth.token.reveal() == "hvs.x-y_z"
    assert "hvs.x-y_z" not in repr(found)
    assert found.ledger == SqliteLedger(str(tmp_path / ".local/state/jtr/ledger.db"))
    assert found.max_unknown_writes == 20


def test_the_first_file_that_exists_counts(tmp_path: Path) -> None:
    home = tmp_path / "home"
    own = home / ".config" / "jtr" / "settings.yaml"
    xdg = tmp_path / "xdg" / "jtr" / "settings.yaml"
    named = tmp_path / "named.yaml"
    environ = {"HOME": str(home)}
    chosen: list[str | None] = [load_settings(None, environ, []).source]
    for path in (own, Path(paths.SYSTEM_FILE), named, xdg):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("role: ci\n")
    chosen.append(load_settings(None, environ, []).source)
    Path(paths.SYSTEM_FILE).unlink()
    chosen.append(load_settings(None, environ, []).source)
    chosen.append(
        load_settings(None, {**environ, "XDG_CONFIG_HOME": str(tmp_path / "xdg")}, []).source
    )
    environ["JTR_SETTINGS"] = str(named)
    chosen.append(load_settings(None, environ, []).source)
    chosen.append(load_settings(str(own), environ, []).source)

    assert chosen == [None, paths.SYSTEM_FILE, str(own), str(xdg), str(named), str(own)]


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_a_named_file_must_exist(tmp_path: Path, how: str) -> None:
    missing = str(tmp_path / "no.yaml")
    flag, environ = (missing, {}) if how == "flag" else (None, {"JTR_SETTINGS": missing})
    with pytest.raises(UsageError, match="there is no settings file") as raised:
        load_settings(flag, environ, [])

    assert raised.value.exit_code is Exit.USAGE


@pytest.mark.parametrize("prefix", ["VAULT", "BAO"])
def test_the_environment_wins_over_the_file(read: Read, prefix: str) -> None:
    file = (
        "vault: {address: https://file.test, namespace: file, caFile: ca.pem,"
        " auth: {method: token-file, tokenFile: t}}\n"
    )
    alone = read(file)
    won = read(
        file,
        **{
            f"{prefix}_ADDR": "https://env.test",
            f"{prefix}_NAMESPACE": "env/x",
            f"{prefix}_CACERT": "/env/ca.pem",
            f"{prefix}_TOKEN_FILE": "/env/token",
        },
    )

    assert alone.vault.address == "https://file.test"
    assert alone.vault.ca_file == str(Path(alone.source or "").parent / "ca.pem")
    assert won.vault.address == "https://env.test"
    assert won.vault.namespace == "env/x"
    assert won.vault.ca_file == "/env/ca.pem"
    assert won.vault.auth.token_file == "/env/token"


def test_two_variables_that_disagree_are_named_without_their_values(read: Read) -> None:
    message = refusal(read, "role: ci\n", BAO_TOKEN="aaaaaaaaaaaa", VAULT_TOKEN="bbbbbbbbbbbb")

    assert "BAO_TOKEN and VAULT_TOKEN disagree" in message
    assert "aaaa" not in message
    assert "bbbb" not in message
    assert read(BAO_TOKEN="same", VAULT_TOKEN="same").vault.auth.token is not None
    assert "are both set" in refusal(read, "role: ci\n", BAO_TOKEN="a", VAULT_TOKEN_FILE="/b")


@pytest.mark.parametrize("canary", canaries(7), ids=lambda canary: canary.shape)
def test_a_token_with_a_line_break_is_refused_in_silence(read: Read, canary: object) -> None:
    value = canary.value  # type: ignore[attr-defined]  # a parameter
    message = refusal(read, "role: ci\n", VAULT_TOKEN=f"{value}\n")

    assert message.startswith("VAULT_TOKEN holds something that no token holds")
    assert not find_leaks(message.encode(), [canary])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "vault: {auth: {method: token, token: hvs.QwErTy}}",
            "a secret never stands in the settings",
        ),
        (
            "vault: {auth: {method: approle, secretId: QwErTy}}",
            "a secret never stands in the settings",
        ),
        ("vault: {auth: {method: approle, roleId: a}}", "approle needs secretIdFile"),
        ("vault: {auth: {method: approle, secretIdFile: a}}", "either roleId or roleIdFile"),
        ("vault: {auth: {method: token-file}}", "token-file needs tokenFile"),
        ("vault: {auth: {method: token, role: a}}", "token has no use for role"),
        ("vault: {auth: {method: jwt, role: a}}", "jwt needs tokenFile"),
        ("vault: {auth: {method: tokenfile}}", "did you mean token-file?"),
        ("vault: {address: http://vault.test}", "carry the Vault token in clear"),
        ("vault: {address: https://u:QwErTy@vault.test}", "never carries a user"),
        ("ledger: postgres:x", "sqlite:PATH or vault:MOUNT/PATH"),
        ("ledger: vault:x", "no place for a ledger"),
        ("ledger: vault:a/b#c", "no place for a ledger"),
        ("fingerprintKey: QwErTyUiOp", "looks like a secret itself"),
        ("fingerprintKey: vault:a/b", "names no field"),
        ("durations: {connect: 0s}", "out of range"),
        ("durations: {connect: 2h}", "out of range"),
        ("durations: {settleTotal: 1s, settle-total: 2s}", "stands here twice"),
        ("durations: {conect: 1s}", "did you mean connect?"),
        ("durations: {connect: 10}", "quote it"),
        ("maxUnknownWrites: -1", "too small"),
        ("maxUnknownWrites: many", "must be a whole number"),
        ("allow: {urls: []}", "is empty"),
        ("tls: [{urls: ['https://*'], clientKey: a}]", "a clientKey without a clientCert"),
        ("acceptVersions: [0.25]", "quote it"),
        ("policy: 1", "policy must be text"),
        ("policy: {}", "has no rules"),
        ("policies: {}", "policies is not known"),
        ("policy: nowhere.yaml", "there is no policy"),
        ("policy: a.yaml\nallow: {urls: [x]}", "only one of the two counts"),
        ("role: worker", "must be one of ci, controller"),
        ("", "settings are one mapping"),
        ("- a", "settings are one mapping"),
        ("role: ci\n---\nrole: ci", "settings are one mapping"),
        ("role: &a ci", "anchors"),
    ],
)
def test_wrong_settings(read: Read, text: str, words: str) -> None:
    message = refusal(read, text)

    assert words in message
    assert "QwErTy" not in message


def test_ledgers_and_paths(read: Read, tmp_path: Path) -> None:
    base = str(tmp_path / "operator")
    home = str(tmp_path / "home")

    assert read("ledger: sqlite:l.db").ledger == SqliteLedger(f"{base}/l.db")
    assert read("ledger: sqlite:~/l.db").ledger == SqliteLedger(f"{home}/l.db")
    assert read("ledger: vault:a/b").ledger == VaultLedger(SecretPath("a", "b"))
    assert read("ledger: vault:a/b//c").ledger == VaultLedger(SecretPath("a/b", "c"))
    assert read(XDG_STATE_HOME="/state").ledger == SqliteLedger("/state/jtr/ledger.db")
    assert read(XDG_STATE_HOME="state").ledger == SqliteLedger(f"{home}/.local/state/jtr/ledger.db")


@pytest.mark.parametrize(
    ("pattern", "subject", "fits"),
    [
        ("https://*.internal:8443", "https://a.b.internal:8443", True),
        ("https://*.internal:8443", "https://evil.test/.internal:8443", False),
        ("https://*", "https://a.test/x", False),
        ("https://**", "https://a.test/x", True),
        ("http://127.0.0.1:*", "http://127.0.0.1:80801", True),
        ("http://127.0.0.1:*", "http://127x0.0.1:8080", False),
        ("secret/jt/?", "secret/jt/a", True),
        ("secret/jt/?", "secret/jt//", False),
        ("secret/jt/**", "secret/jt", False),
        ("[ab]", "a", False),
        ("a", "a\n", False),
        ("a*", "a\n", True),
    ],
)
def test_patterns(pattern: str, subject: str, *, fits: bool) -> None:
    assert glob_matches(pattern, subject) is fits


def test_what_is_allowed(read: Read) -> None:
    limited = read("allow: {urls: ['https://*.test'], paths: ['vault:secret/jt/**', 'a/b//c']}")

    def allows(settings: Settings, url: str, path: str) -> bool:
        login = SecretRef.parse(f"vault:{path}#x")
        server = DesiredServer("a", url, NOWHERE, access_secret=login)
        return not settings.policy.violations(server)

    assert allows(limited, "https://a.test", "secret/jt/x/y")
    assert not allows(limited, "https://a.test:8443", "secret/jt/x/y")
    assert allows(limited, "https://a.test", "a/b//c")
    assert not allows(limited, "https://a.test", "a/b/c")
    assert allows(read(), "https://anything.test", "any/thing")
    assert not limited.policy.speaks


def test_the_first_tls_rule_that_matches_counts(read: Read) -> None:
    found = read(
        "tls: [{urls: ['https://a.test'], caFile: /1}, {urls: ['https://**'], caFile: /2}]"
    )

    assert [rule.ca_file for u in ("a", "b") if (rule := found.tls_for(f"https://{u}.test"))] == [
        "/1",
        "/2",
    ]
    assert found.tls_for("http://127.0.0.1:1") is None


# ── settings and desired state stay apart ────────────────────────────────────────────────────


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    (root / "servers").mkdir(parents=True)
    subprocess.run(["git", "init", "-q", str(root)], check=True, timeout=30)
    (root / "servers" / "a.yaml").write_text("")
    (root / "settings.yaml").write_text("role: ci\n")
    return root


@pytest.mark.parametrize("desired", ["servers", "servers/a.yaml", ".", "servers/not-yet"])
def test_settings_in_the_same_work_tree_are_refused(repository: Path, desired: str) -> None:
    file = str(repository / "settings.yaml")
    with pytest.raises(UsageError, match="lie with the desired state"):
        load_settings(file, {}, [str(repository / desired)])

    assert load_settings(file, {}, [str(repository / desired)], in_repo_allowed=True).role


def test_settings_in_a_tree_without_git_are_refused(tmp_path: Path) -> None:
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    file = tmp_path / "tree" / "deep" / "settings.yaml"
    file.write_text("role: ci\n")

    with pytest.raises(UsageError, match="lie with the desired state"):
        load_settings(str(file), {}, [str(tmp_path / "tree")])
    assert load_settings(str(file), {}, [str(tmp_path / "other")]).role is Role.CI


def test_a_link_in_the_work_tree_is_refused_wherever_it_leads(
    repository: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside.yaml"
    outside.write_text("role: ci\n")
    inside = repository / "link.yaml"
    inside.symlink_to(outside)
    detour = tmp_path / "detour.yaml"
    detour.symlink_to(inside)
    into = tmp_path / "into.yaml"
    into.symlink_to(repository / "settings.yaml")
    folder = tmp_path / "folder"
    folder.symlink_to(repository)

    for path in (inside, detour, into, folder / "settings.yaml"):
        with pytest.raises(UsageError, match="lie with the desired state"):
            load_settings(str(path), {}, [str(repository / "servers")])
    assert load_settings(str(outside), {}, [str(repository / "servers")]).role is Role.CI


def test_a_linked_desired_tree_is_followed(repository: Path, tmp_path: Path) -> None:
    link = tmp_path / "desired"
    link.symlink_to(repository / "servers")

    with pytest.raises(UsageError, match="lie with the desired state"):
        load_settings(str(repository / "settings.yaml"), {}, [str(link)])


def test_the_usual_place_is_not_exempt(tmp_path: Path) -> None:
    own = tmp_path / ".config" / "jtr" / "settings.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("role: ci\n")

    with pytest.raises(UsageError, match="lie with the desired state"):
        load_settings(None, {"HOME": str(tmp_path)}, [str(tmp_path)])


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_settings_that_others_may_write_are_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("role: ci\n")
    file.chmod(mode)

    with pytest.raises(UsageError, match="others may write") as refused:
        load_settings(str(file), {}, [])
    assert refused.value.remedy == f"chmod go-w {file}"


def test_settings_beside_a_named_file_are_refused_without_git_as_well(tmp_path: Path) -> None:
    file, desired = tmp_path / "settings.yaml", tmp_path / "tokyo-1.yaml"
    file.write_text("role: ci\n")
    desired.write_text("")

    with pytest.raises(UsageError, match="lie with the desired state"):
        load_settings(str(file), {}, [str(desired)])


def test_a_policy_may_stand_in_the_settings(read: Read) -> None:
    found = read(
        "policy:\n"
        "  rules:\n"
        "    - name: ours\n"
        "      servers: {urls: ['https://a.internal']}\n"
        "      secrets: ['secret/**']\n"
        "      actions: [all]\n"
    )

    assert [rule.name for rule in found.policy.rules] == ["ours"]
    assert found.policy.speaks


PROPOSING = """\
controller: {{page: {{}}, actions: {actions}}}
git:
  url: {url}
  knownHostsFile: known
{status}
  propose: {propose}
"""
STATUS = "  status: {forge: gitea, api: https://forge.test/api/v1, project: a/b, tokenFile: t}"


def proposing(
    propose: str = "{tokenFile: pull-token}",
    url: str = "https://forge.test/a/b.git",
    status: str = STATUS,
    actions: str = "true",
) -> str:
    return PROPOSING.format(propose=propose, url=url, status=status, actions=actions)


def test_pull_requests_are_off_unless_asked_for(read: Read, tmp_path: Path) -> None:
    assert read("git: {url: 'https://forge.test/a/b.git'}\n").git.propose is None  # type: ignore[union-attr]
    found = read(proposing()).git
    assert found is not None
    assert found.propose == ProposeSettings(str(tmp_path / "operator" / "pull-token"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (proposing(actions="false"), "nobody may act there"),
        (proposing(status=""), "no forge is named"),
        (proposing(url="ssh://git@forge.test/a/b.git"), "ssh needs a key that may push"),
        (proposing("{tokenFile: t, sshKeyFile: k}"), "only ssh has a use for a key"),
        (proposing("{tokenFile: t, branchPrefix: main/}"), "no branch may begin so"),
        (proposing("{tokenFile: t, branchPrefix: a..b}"), "no branch may begin so"),
        (proposing("{tokenFile: t, branchPrefix: -x}"), "the beginning of a branch"),
        (proposing("{branchPrefix: x}"), "tokenFile"),
    ],
)
def test_pull_requests_that_could_not_be_opened_are_refused(
    read: Read, text: str, why: str
) -> None:
    assert why in refusal(read, text)
