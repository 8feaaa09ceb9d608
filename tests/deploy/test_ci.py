"""
The jobs of CI: who gets which login (T17), what a pull request cannot do (T3), what a job leaves.

OpenBao is real, and so are the steps of the workflows; the CI system is a key of this process.
"""

import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml

from reconciler.errors import JtrError
from reconciler.model.secret import Secret
from reconciler.sandbox.openbao import OpenBao
from reconciler.secrets.vault.client import Answer, VaultSession
from reconciler.system.timeouts import Timeouts
from tests.deploy.issuer import (
    AUDIENCE,
    GITHUB,
    GITHUB_PULL,
    GITLAB,
    GITLAB_MERGE,
    Issuer,
    action,
    component,
    github_steps,
    pipeline,
    started,
    workflow,
)
from tests.deploy.tools import DEPLOY, ran, tool
from tests.house.pages import blocks, commands, page, shell
from tests.support.durations import DURATIONS
from tests.support.forge import STRANGER, TOKEN, ForgeStandIn, forgejo, github, gitlab
from tests.support.leaks import PRIVATE, Watch
from tests.support.processes import until
from tests.support.repository import Repository
from tests.support.rig import Rig

CI = page("docs/setup-ci.md")
WORKFLOWS = ("plan", "apply")
OK, REFUSED = 200, {400, 403}


class Vault:
    """An OpenBao set up as the page says, for teams on GitHub and on GitLab."""

    def __init__(self, bao: OpenBao, folder: Path) -> None:
        self.bao = bao
        self.issuer = Issuer()
        self._session = VaultSession(
            address=bao.address, namespace="", ca_file=None, timeouts=Timeouts()
        )
        (folder / "deploy").symlink_to(DEPLOY)
        variables = commands(folder / PRIVATE) | {
            "BAO_ADDR": bao.address,
            "BAO_TOKEN": bao.root_token.reveal(),
        }
        for what in ("vault", "roles"):
            for block in blocks(CI, what):
                shell(block, folder, variables)
        # Other teams, one of them on GitLab: the same lines with other names.
        (roles,) = blocks(CI, "roles")
        for line in (
            "team=osaka repository=987654321 ci=github",
            "team=kyoto repository=123456789 ci=github",
            "team=lab repository=123456789 ci=gitlab",
            "team=nara repository=123456789 ci=github",
        ):
            changed = roles.replace("team=desk repository=123456789 ci=github", line)
            assert changed != roles
            shell(changed, folder, variables)
        key = {"jwt_validation_pubkeys": [self.issuer.pem], "bound_issuer": self.issuer.address}
        bao.request("POST", "auth/jwt/config", key)
        for team in ("desk", "desk2", "osaka"):
            bao.put(f"jt/{team}/tokyo-1/bybit", {"apiKey": f"of {team}"})
            row = {"data": {"text": "x"}, "options": {"cas": 0}}
            bao.request("POST", f"jtr/data/ledger/{team}/row", row)

    def close(self) -> None:
        self._session.close()

    def log_in(self, role: str, jwt: str) -> tuple[int, str | None]:
        """Log in as a job would; returns the status and the token."""
        answer = self._answer("POST", "auth/jwt/login", token=None, body={"role": role, "jwt": jwt})
        return answer.status, answer.body.get("auth", {}).get("client_token")

    def status(
        self, method: str, path: str, token: str, body: Mapping[str, Any] | None = None
    ) -> int:
        """What OpenBao answers to this token."""
        return self._answer(method, path, token=Secret(token), body=body).status

    def _answer(self, method: str, path: str, **parts: Any) -> Answer:
        session = self._session
        return session.wait(session.exchange(method, f"/v1/{path}", attempts=1, **parts))

    def token(self, role: str, claims: Mapping[str, Any]) -> str:
        status, token = self.log_in(role, self.issuer.jwt(claims))
        assert status == OK
        assert token is not None
        return token


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    with OpenBao() as bao:
        vault = Vault(bao, tmp_path_factory.mktemp("vault"))
        yield vault
        vault.close()


# ── T17: who gets a login ────────────────────────────────────────────────────────────────────

LAB = {"environment": "jtr-lab-apply"}
RIGHT: list[tuple[str, dict[str, Any]]] = [
    ("jtr-desk-apply", GITHUB),
    ("jtr-desk-apply", GITHUB | {"event_name": "schedule"}),
    ("jtr-desk-plan", GITHUB_PULL),
    ("jtr-lab-apply", GITLAB | LAB),
    ("jtr-lab-plan", GITLAB_MERGE | {"environment": "jtr-lab-plan"}),
]
WRONG: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    # Another repository; one of the same name, made after ours was given up.
    ("jtr-desk-apply", GITHUB, {"repository_id": "987654321"}),
    ("jtr-desk-apply", GITHUB, {"repository_id": None}),
    ("jtr-desk-apply", GITHUB, {"repository_id": "1234567890"}),
    ("jtr-desk-apply", GITHUB, {"repository_id": "*"}),
    # Another branch, a tag of that name, a pull request, a pattern.
    ("jtr-desk-apply", GITHUB, {"ref": "refs/heads/main2"}),
    ("jtr-desk-apply", GITHUB, {"ref": "refs/heads/feature/main"}),
    ("jtr-desk-apply", GITHUB, {"ref": "refs/tags/main"}),
    ("jtr-desk-apply", GITHUB, {"ref": "refs/pull/7/merge"}),
    ("jtr-desk-apply", GITHUB, {"ref": "main"}),
    ("jtr-desk-apply", GITHUB, {"ref": "refs/heads/*"}),
    ("jtr-desk-apply", GITHUB, {"ref": "REFS/HEADS/MAIN"}),
    ("jtr-desk-apply", GITHUB, {"ref": None}),
    # Without the environment, or in another's.
    ("jtr-desk-apply", GITHUB, {"environment": None}),
    ("jtr-desk-apply", GITHUB, {"environment": "jtr-desk-plan"}),
    ("jtr-desk-apply", GITHUB, {"environment": "jtr-osaka-apply"}),
    ("jtr-desk-apply", GITHUB, {"environment": "jtr-desk-apply-2"}),
    # What runs on the main branch, and not because somebody merged.
    ("jtr-desk-apply", GITHUB, {"event_name": "pull_request_target"}),
    ("jtr-desk-apply", GITHUB, {"event_name": "workflow_run"}),
    ("jtr-desk-apply", GITHUB, {"event_name": None}),
    # A pull request wants to apply; another team's does.
    ("jtr-desk-apply", GITHUB_PULL, {}),
    ("jtr-desk-apply", GITHUB_PULL, {"environment": "jtr-desk-apply"}),
    ("jtr-osaka-apply", GITHUB, {}),
    ("jtr-osaka-apply", GITHUB, {"environment": "jtr-osaka-apply"}),
    # For somebody else, from somebody else.
    ("jtr-desk-apply", GITHUB, {"aud": "vault"}),
    ("jtr-desk-apply", GITHUB, {"aud": f"{AUDIENCE}/"}),
    ("jtr-desk-apply", GITHUB, {"aud": None}),
    ("jtr-desk-apply", GITHUB, {"iss": "https://token.actions.githubusercontent.com"}),
    # The plan's role is the pull request's alone, against main.
    ("jtr-desk-plan", GITHUB, {}),
    ("jtr-desk-plan", GITHUB_PULL, {"base_ref": "next"}),
    ("jtr-desk-plan", GITHUB_PULL, {"event_name": "push"}),
    ("jtr-desk-plan", GITHUB_PULL, {"repository_id": "987654321"}),
    ("jtr-desk-plan", GITHUB_PULL, {"environment": None}),
    # GitLab: a fork's pipeline has the fork's number; `ref` is the same for branch and tag.
    ("jtr-lab-apply", GITLAB | LAB, {"project_id": "987654321"}),
    ("jtr-lab-apply", GITLAB | LAB, {"ref_path": "refs/tags/main", "ref_type": "tag"}),
    ("jtr-lab-apply", GITLAB | LAB, {"ref_path": None}),
    ("jtr-lab-apply", GITLAB | LAB, {"environment": None}),
    ("jtr-lab-apply", GITLAB | LAB, {"pipeline_source": "merge_request_event"}),
    ("jtr-lab-apply", GITLAB_MERGE | LAB, {}),
    ("jtr-lab-plan", GITLAB_MERGE, {}),
    ("jtr-lab-apply", GITHUB, {}),
]


@pytest.mark.parametrize(("role", "claims"), RIGHT)
def test_t17_the_right_job_gets_a_login(vault: Vault, role: str, claims: dict[str, Any]) -> None:
    assert vault.log_in(role, vault.issuer.jwt(claims))[0] == OK


@pytest.mark.parametrize(("role", "claims", "change"), WRONG)
def test_t17_a_wrong_claim_is_refused(
    vault: Vault, role: str, claims: dict[str, Any], change: dict[str, Any]
) -> None:
    status, token = vault.log_in(role, vault.issuer.jwt(claims | change))

    assert status in REFUSED
    assert token is None


@pytest.mark.parametrize(
    "forge",
    [
        lambda issuer: issuer.jwt(GITHUB, age=3600),
        lambda issuer: issuer.jwt(GITHUB, age=-3600),
        lambda issuer: issuer.jwt(GITHUB, algorithm="none"),
        lambda issuer: issuer.jwt(GITHUB, algorithm="HS256"),
        lambda _: Issuer().jwt(GITHUB),
        lambda issuer: issuer.jwt(GITHUB)[:-8],
    ],
    ids=["expired", "not yet", "no signature", "another algorithm", "another key", "cut"],
)
def test_t17_a_login_that_is_none_is_refused(vault: Vault, forge: Callable[[Issuer], str]) -> None:
    status, token = vault.log_in("jtr-desk-apply", forge(vault.issuer))

    assert status in REFUSED
    assert token is None


@pytest.mark.parametrize(("role", "most"), [("jtr-desk-apply", 600), ("jtr-desk-plan", 300)])
def test_t17_a_token_lives_for_minutes_and_has_one_policy(
    vault: Vault, role: str, most: int
) -> None:
    claims = GITHUB if role.endswith("apply") else GITHUB_PULL
    token = vault.token(role, claims)
    facts = vault.bao.request("POST", "auth/token/lookup", {"token": token}).data

    assert facts["policies"] == [role]
    assert facts["ttl"] <= most
    assert facts["explicit_max_ttl"] == 0
    assert vault.status("POST", "auth/token/revoke-self", token, {}) == 204
    assert not vault.bao.alive(Secret(token))


def test_t17_no_role_is_bound_by_a_pattern() -> None:
    files = [*(DEPLOY / "vault").glob("git*-*.json")]

    assert len(files) == 4
    for file in files:
        role = json.loads(file.read_text("utf-8"))
        assert role["bound_claims_type"] == "string"
        assert "*" not in json.dumps(role)
        assert set(role["bound_claims"]) & {"repository_id", "project_id"}
        assert "environment" in role["bound_claims"]
        assert set(role["bound_claims"]) & {"ref", "ref_path"} or "plan" in file.name
        assert role["token_policies"] == [f"jtr-TEAM-{file.stem.partition('-')[2]}"]
        assert role["token_no_default_policy"]


# ── T3: what a login may ─────────────────────────────────────────────────────────────────────


def test_t3_a_pull_request_reads_no_value_and_writes_one_row(vault: Vault) -> None:
    token = vault.token("jtr-desk-plan", GITHUB_PULL)
    row = {"data": {"text": "forged"}, "options": {"cas": 1}}

    assert vault.status("GET", "secret/metadata/jt/desk/tokyo-1/bybit", token) == OK
    assert vault.status("GET", "jtr/data/ledger/desk/row", token) == OK
    # The one row that it writes says what reviewers were shown; it is never deleted.
    proposals, first = "ledger/desk/ledger/proposals", row | {"options": {"cas": 0}}
    assert vault.status("POST", f"jtr/data/{proposals}", token, first) == OK
    for method, path, body in (
        ("DELETE", f"jtr/metadata/{proposals}", None),
        ("POST", "jtr/data/ledger/desk/ledger/applied", first),
        ("POST", "jtr/data/ledger/desk/ledger/proposals/x", first),
        ("POST", "jtr/data/ledger/osaka/ledger/proposals", first),
        ("GET", "secret/data/jt/desk/tokyo-1/bybit", None),
        ("GET", "secret/data/jt/desk/fingerprint", None),
        ("GET", "secret/subkeys/jt/desk/tokyo-1/bybit", None),
        ("POST", "jtr/data/ledger/desk/row", row),
        ("POST", "secret/metadata/jt/desk/tokyo-1/bybit", {"custom_metadata": {}}),
        ("POST", "auth/token/create", {}),
        ("GET", "auth/jwt/role/jtr-desk-apply", None),
        ("POST", "sys/policies/acl/jtr-desk-plan", {"policy": ""}),
    ):
        assert vault.status(method, path, token, body) == 403, path


@pytest.mark.parametrize("job", WORKFLOWS)
def test_t3_one_teams_login_reads_nothing_of_another(vault: Vault, job: str) -> None:
    claims = GITHUB if job == "apply" else GITHUB_PULL
    token = vault.token(f"jtr-desk-{job}", claims)
    row = {"data": {"text": "forged"}, "options": {"cas": 1}}

    if job == "apply":
        assert vault.status("GET", "secret/data/jt/desk/tokyo-1/bybit", token) == OK
        assert vault.status("POST", "jtr/data/ledger/desk/row", token, row) == OK
        assert vault.status("DELETE", "jtr/metadata/ledger/desk/row", token) == 403
    for team in ("osaka", "desk2", "desk/../osaka", "lab"):
        for method, path, body in (
            ("GET", f"secret/data/jt/{team}/tokyo-1/bybit", None),
            ("GET", f"secret/metadata/jt/{team}/tokyo-1/bybit", None),
            ("GET", f"jtr/data/ledger/{team}/row", None),
            ("POST", f"jtr/data/ledger/{team}/row", row),
        ):
            try:
                assert vault.status(method, path, token, body) == 403, path
            except JtrError:  # our own client does not send such a path
                assert ".." in path


def test_why_policies_are_no_templates(vault: Vault) -> None:
    """An alias has the metadata of its latest login: a living token follows it to other paths."""
    accessor = vault.bao.request("GET", "sys/auth").data["jwt/"]["accessor"]
    named = f"{{{{identity.entity.aliases.{accessor}.metadata.team}}}}"
    vault.bao.write_policy("templated", {f"secret/data/jt/{named}/*": ["read"]})
    vault.bao.request(
        "POST",
        "auth/jwt/role/templated",
        {
            "role_type": "jwt",
            "user_claim": "repository_id",
            "bound_audiences": [AUDIENCE],
            "claim_mappings": {"team": "team"},
            "token_policies": ["templated"],
        },
    )
    ours, theirs = (f"secret/data/jt/{team}/tokyo-1/bybit" for team in ("desk", "osaka"))

    token = vault.token("templated", GITHUB | {"team": "desk"})
    before = vault.status("GET", ours, token), vault.status("GET", theirs, token)
    vault.token("templated", GITHUB | {"team": "osaka"})
    after = vault.status("GET", ours, token), vault.status("GET", theirs, token)

    assert (before, after) == ((OK, 403), (403, OK))


# ── T3: what the workflows do ────────────────────────────────────────────────────────────────


def texts() -> dict[str, str]:
    return {name: (DEPLOY / "github" / f"{name}.yaml").read_text("utf-8") for name in WORKFLOWS}


def test_t3_a_pull_request_starts_nothing_but_the_plan() -> None:
    # YAML 1.1 reads `on` as a truth.
    events = {name: set(yaml.safe_load(text)[True]) for name, text in texts().items()}

    assert events == {"plan": {"pull_request"}, "apply": {"push", "schedule"}}
    assert pipeline()["plan"]["rules"] == [{"if": '$CI_PIPELINE_SOURCE == "merge_request_event"'}]


def test_t3_a_plan_and_an_apply_never_share_a_runner() -> None:
    jobs = {name: workflow(name)["jobs"][name] for name in WORKFLOWS}

    assert jobs["plan"]["runs-on"] == {"group": "jtr-plan"}
    assert jobs["apply"]["runs-on"] == {"group": "jtr-apply"}
    assert not set(pipeline()["plan"]["tags"]) & set(pipeline()["apply"]["tags"])
    for name, job in jobs.items():
        assert job["environment"] == pipeline()[name]["environment"] == f"jtr-desk-{name}"


def test_t3_nothing_goes_from_one_job_to_another() -> None:
    for name, text in texts().items():
        (job,) = workflow(name)["jobs"].values()
        used = [step["uses"] for step in job["steps"] if "uses" in step]
        assert [one.partition("@")[0] for one in used] == ["actions/checkout"], name
        assert not re.search(r"GITHUB_(ENV|OUTPUT|STATE|PATH|STEP_SUMMARY)|secrets\.", text)
    assert not {"artifacts", "cache", "services"} & {
        key for job in pipeline().values() for key in job
    }


def test_the_jobs_are_what_their_systems_accept() -> None:
    github, gitlab = (DEPLOY / "github").glob("*.yaml"), (DEPLOY / "gitlab").glob("*.yaml")

    assert "ok" in ran("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *github)
    assert "ok" in ran("check-jsonschema", "--builtin-schema", "vendor.gitlab-ci", *gitlab)
    job = "".join([*blocks(CI, "pull request"), *blocks(CI, "merge")])
    for text in (*texts().values(), (DEPLOY / "gitlab/gitlab-ci.yaml").read_text("utf-8")):
        for command in re.findall(r"\bjtr (?:validate|plan|apply)\b.*", text):
            assert command.replace(' --settings "$private/settings.yaml"', "") in job, command


# Which contexts an expression may use: https://docs.github.com/actions/reference/contexts
NOWHERE_BUT_IN_STEPS = r"\$\{\{[^}]*\b(runner|env|job|steps|secrets)\."


def misplaced(text: str) -> list[str]:
    """Expressions outside of steps that name what only a step has: such a file is refused."""
    outside = yaml.safe_load(text)
    for job in outside["jobs"].values():
        del job["steps"]
    return re.findall(NOWHERE_BUT_IN_STEPS, yaml.safe_dump(outside, width=1000))


def test_expressions_name_what_is_there() -> None:
    old = "jobs: {x: {env: {A: '${{ runner.temp }}/settings.yaml'}, steps: []}}"

    assert misplaced(old) == ["runner"]
    for text in texts().values():
        assert misplaced(text) == []


def findings(*files: object) -> set[str]:
    """What zizmor has to say; it asks nobody."""
    said = ran(
        *("zizmor", "--offline", "--no-progress", "--quiet", "--persona", "auditor"),
        *("--no-exit-codes", "--min-severity", "low", "--format", "json", *files),
    )
    return {one["ident"] for one in json.loads(said)}


def test_zizmor_finds_nothing_but_runners_of_our_own(tmp_path: Path) -> None:
    assert findings(*(DEPLOY / "github").glob("*.yaml")) == {"self-hosted-runner"}

    (tmp_path / "workflows").mkdir()
    old = tmp_path / "old.yaml"
    old.write_text(
        "on: pull_request_target\npermissions: write-all\njobs: {x: {runs-on: ubuntu-latest, "
        "steps: [{uses: actions/checkout@v4}, {run: 'echo ${{ github.head_ref }}'}]}}\n",
        "utf-8",
    )
    assert {"dangerous-triggers", "artipacked", "unpinned-uses"} <= findings(old)


# ── T17: what a job leaves ───────────────────────────────────────────────────────────────────


class Runner:
    """A runner with a checkout of the documents, and a team's settings in its environment."""

    def __init__(self, rig: Rig, team: str) -> None:
        self.rig = rig
        self.team = rig.team = team
        rig.docs = rig.home / "work" / "servers"
        rig.docs.mkdir(parents=True)
        self.work = rig.docs.parent
        self.temp = rig.home / "temp"
        self.temp.mkdir()
        self.variables = commands(rig.home / PRIVATE / "person") | {
            "RUNNER_TEMP": str(self.temp),
            "TMPDIR": str(self.temp),
        }
        (text,) = blocks(CI, "settings")
        self._settings = yaml.safe_load(text.replace("desk", team))
        (rule,) = self._settings["policy"]["rules"]
        assert rule["secrets"] == [f"secret/jt/{team}/**"]
        rule["servers"] = {"urls": ["http://127.0.0.1:*"]}
        self._settings["durations"] = DURATIONS
        self._settings["vault"]["address"] = rig.bao.address

    def settings(self, job: str) -> str:
        self._settings["vault"]["auth"]["role"] = f"jtr-{self.team}-{job}"
        return yaml.safe_dump(self._settings)

    def begin(self) -> None:
        """Begin the ledger as the page says."""
        folder = self.rig.home / PRIVATE / "administrator"
        folder.mkdir()
        (folder / "settings.yaml").write_text(self.settings("apply"), "utf-8")
        (init,) = blocks(CI, "init")
        shell(init, folder, self.variables | self.administrator)

    @property
    def administrator(self) -> dict[str, str]:
        return {"VAULT_TOKEN": self.rig.bao.root_token.reveal()}

    def run(self, job: str, issuer: Issuer) -> str:
        """Run all steps of a job of GitHub's; returns what they printed."""
        printed = ""
        for script, own in github_steps(job):
            values = {
                name: self.settings(job) if "vars.JTR_SETTINGS" in value else value
                for name, value in own.items()
            }
            printed += self.step(script, values | issuer.variables, "-o", "pipefail")
        return printed

    def run_gitlab(self, job: str, jwt: str) -> str:
        """Run a job of GitLab's, its before_script and its script in one shell."""
        lines = [*pipeline()["default"]["before_script"], *pipeline()[job]["script"]]
        variables = {"JTR_SETTINGS_FILE": str(self.given(job)), "VAULT_ID_TOKEN": jwt}
        return self.step("\n".join(lines), variables)

    def given(self, job: str, auth: Mapping[str, str] | None = None) -> Path:
        """A file with the settings of a job, perhaps with a login of the machine's own."""
        file = self.rig.home / PRIVATE / f"{job}.yaml"
        settings = yaml.safe_load(self.settings(job))
        settings["vault"]["auth"] = auth or settings["vault"]["auth"]
        file.write_text(yaml.safe_dump(settings), "utf-8")
        file.chmod(0o600)
        return file

    def step(self, script: str, variables: Mapping[str, str], *options: str) -> str:
        """Run one script to its good end; returns what it printed."""
        process = started(script, self.work, {**self.variables, **variables}, *options)
        output, _ = process.communicate(timeout=100)
        assert process.returncode == 0, output
        return output


def living(bao: OpenBao) -> set[str]:
    """The accessors of all tokens."""
    return set(bao.request("LIST", "auth/token/accessors").data["keys"])


@pytest.fixture
def issuer(vault: Vault) -> Iterator[Issuer]:
    with vault.issuer as issuer:
        issuer.given.clear()
        issuer.asked.clear()
        yield issuer


@pytest.fixture
def runner(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    vault: Vault,
    watch: Watch,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Runner]:
    tool("curl")
    with Rig(tmp_path, vault.bao, watch, monkeypatch) as rig:
        yield Runner(rig, getattr(request, "param", "kyoto"))


def test_t17_after_a_job_its_token_is_dead_and_its_login_gone(
    runner: Runner, issuer: Issuer, watch: Watch
) -> None:
    rig, bao = runner.rig, runner.rig.bao
    server = rig.server()
    rig.document("tokyo-1", "bybit")
    runner.begin()
    bao.enable_audit()
    before = living(bao)

    issuer.claims = GITHUB | {"environment": "jtr-kyoto-apply"}
    applied = runner.run("apply", issuer)
    rig.rotate("tokyo-1")
    start = len(bao.audit_entries())
    issuer.claims = GITHUB_PULL | {"environment": "jtr-kyoto-plan"}
    planned = runner.run("plan", issuer)
    for jwt in issuer.given:
        watch.guard(jwt, "login")
    watch.search("what the jobs printed", applied + planned)

    assert server.record.saves == 1, applied
    assert "bybit" in planned
    assert issuer.asked == [(AUDIENCE, "bearer runner-only")] * 2
    assert living(bao) == before
    assert list(runner.temp.iterdir()) == []
    entries = [one for one in bao.audit_entries()[start:] if one["type"] == "response"]
    paths = {one["request"]["path"] for one in entries}
    assert {"auth/jwt/login", "auth/token/revoke-self"} <= paths
    assert not [path for path in paths if path.startswith("secret/data/")]


@pytest.mark.parametrize("runner", ["lab"], indirect=True)
def test_t17_on_gitlab_too(runner: Runner, vault: Vault, watch: Watch) -> None:
    rig = runner.rig
    server = rig.server()
    rig.document("tokyo-1", "bybit")
    runner.begin()
    before = living(rig.bao)

    jwt = watch.guard(vault.issuer.jwt(GITLAB | LAB), "login")
    applied = runner.run_gitlab("apply", jwt)
    plan = GITLAB_MERGE | {"environment": "jtr-lab-plan"}
    planned = runner.run_gitlab("plan", watch.guard(vault.issuer.jwt(plan), "login"))
    watch.search("what the jobs printed", applied + planned)

    assert server.record.saves == 1, applied
    assert "tokyo-1" in planned
    assert living(rig.bao) == before
    assert list(runner.temp.iterdir()) == []


class Kit(Protocol):
    """A kit for `jtr ci`, as its system runs it, for a team of its own."""

    def plan(self, forge: ForgeStandIn, commit: str) -> str:
        """Run the job of pull request 1, from the branch `new`; returns what it printed."""
        ...

    def apply(self, forge: ForgeStandIn, head: str) -> str:
        """Run the job of the main branch; returns what it printed."""
        ...


class OnGitHub:
    """The action's one step."""

    def __init__(self, runner: Runner, vault: Vault) -> None:
        self._runner = runner
        self._issuer = vault.issuer

    def plan(self, forge: ForgeStandIn, commit: str) -> str:
        pull = github(forge, self._runner.rig.home, "pull_request", commit, number=1, branch="new")
        return self._ran("plan", GITHUB_PULL, pull)

    def apply(self, forge: ForgeStandIn, head: str) -> str:
        return self._ran("apply", GITHUB, github(forge, self._runner.rig.home, "push", head))

    def _ran(self, job: str, claims: dict[str, Any], environment: dict[str, str]) -> str:
        runner, (step,) = self._runner, action()["runs"]["steps"]
        self._issuer.claims = claims | {"environment": f"jtr-{runner.team}-{job}"}
        given = {"path": "servers", "audience": AUDIENCE, "token": TOKEN, "name": runner.team}
        given["settings"] = runner.settings(job)
        values = {
            name: re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda found: given[found[1]], text)
            for name, text in step["env"].items()
        }
        with self._issuer as issuer:
            printed = runner.step(
                step["run"], environment | values | issuer.variables, "-o", "pipefail"
            )
        for jwt in self._issuer.given:
            runner.rig.watch.guard(jwt, "login")
        return printed


class OnGitLab:
    """The component's two jobs."""

    def __init__(self, runner: Runner, vault: Vault) -> None:
        self._runner = runner
        self._issuer = vault.issuer
        self._jobs = component(team=runner.team, audience=AUDIENCE)

    def plan(self, forge: ForgeStandIn, commit: str) -> str:
        merge = {"number": "1", "branch": "new"}
        return self._ran(
            "plan", GITLAB_MERGE, gitlab(forge, "merge_request_event", commit, **merge)
        )

    def apply(self, forge: ForgeStandIn, head: str) -> str:
        return self._ran("apply", GITLAB, gitlab(forge, "push", head))

    def _ran(self, name: str, claims: dict[str, Any], environment: dict[str, str]) -> str:
        runner, job = self._runner, self._jobs[f"jtr-{name}"]
        file = runner.given(name)
        jwt = self._issuer.jwt(claims | {"environment": job["environment"]})
        login = {"VAULT_ID_TOKEN": runner.rig.watch.guard(jwt, "login")}
        variables = environment | job["variables"] | login | {"JTR_SETTINGS_FILE": str(file)}
        printed = runner.step("\n".join(job["script"]), variables)
        kept = {*job["artifacts"]["paths"], *job["artifacts"]["reports"].values()}
        assert [path for path in kept if not (runner.work / path).is_file()] == []
        shutil.rmtree(runner.work / "jtr-ci")  # of this job's own checkout
        return printed


class OnForgejo:
    """The workflow's two steps, on runners with a token file and settings of their own."""

    def __init__(self, runner: Runner, vault: Vault) -> None:
        self._runner = runner
        self._files: dict[str, Path] = {}
        for job in WORKFLOWS:
            body = {"policies": [f"jtr-{runner.team}-{job}"], "no_default_policy": True}
            answer = vault.bao.request("POST", "auth/token/create", body)
            token = runner.rig.home / PRIVATE / f"{job}.token"
            token.write_text(answer.body["auth"]["client_token"], "utf-8")
            token.chmod(0o600)
            auth = {"method": "token-file", "tokenFile": str(token)}
            self._files[job] = runner.given(job, auth)

    def plan(self, forge: ForgeStandIn, commit: str) -> str:
        home = self._runner.rig.home
        return self._ran(
            "plan", forgejo(forge, home, "pull_request", commit, number=1, branch="new")
        )

    def apply(self, forge: ForgeStandIn, head: str) -> str:
        return self._ran("apply", forgejo(forge, self._runner.rig.home, "push", head))

    def _ran(self, job: str, environment: dict[str, str]) -> str:
        workflow = yaml.safe_load((DEPLOY / "forgejo/ci.yaml").read_text("utf-8"))
        _, step = workflow["jobs"][job]["steps"]
        assert step["env"] == {"GITHUB_TOKEN": "${{ github.token }}"}
        script = step["run"].replace("/etc/jtr/settings.yaml", str(self._files[job]))
        assert script != step["run"]
        return self._runner.step(
            script.replace("--name desk", f"--name {self._runner.team}"), environment
        )


@pytest.mark.parametrize(
    ("kit", "runner"),
    [
        pytest.param(OnGitHub, "kyoto", id="github"),
        pytest.param(OnGitLab, "lab", id="gitlab", marks=pytest.mark.volume),
        pytest.param(OnForgejo, "nara", id="forgejo", marks=pytest.mark.volume),
    ],
    indirect=["runner"],
)
def test_a_kit_goes_the_whole_way(
    runner: Runner, vault: Vault, watch: Watch, kit: Callable[[Runner, Vault], Kit]
) -> None:
    """As its system runs it: proposed, proposed anew after a push, applied once it is merged."""
    rig = runner.rig
    repository = Repository(rig.home / "checkout")
    runner.work, rig.docs = repository.work, repository.work / "servers"
    rig.docs.mkdir()
    repository.commit("Begin")
    server = rig.server("tokyo-9")  # the ledger of a team is that of other tests, too
    runner.begin()
    rig.bao.enable_audit()
    jobs = kit(runner, vault)
    before = living(rig.bao)

    with ForgeStandIn() as forge:
        spoof = forge.say("1", STRANGER, f"<!-- jtr ci {runner.team} -->\nall is well")
        repository.branch("new")
        rig.document("tokyo-9", "bybit")
        start = len(rig.bao.audit_entries())
        printed = jobs.plan(forge, repository.commit("Add tokyo-9"))
        asked, (_, comment) = forge.told.asked, forge.told.comments
        shown = comment.body
        rig.document("tokyo-9", "bybit", "okx")
        printed += jobs.plan(forge, repository.commit("And okx"))
        entries, seen = rig.bao.audit_entries()[start:], len(server.record.handshakes)
        reviewed, edits = comment.body, comment.edits
        head = repository.merge("new")
        printed += jobs.apply(forge, head)
    watch.search("what the jobs printed", printed)
    read = {one["request"]["path"] for one in entries if one["request"]["operation"] == "read"}

    assert seen == 0
    assert not [path for path in read if path.startswith("secret/data/")]
    assert asked <= 4
    assert "okx" not in shown
    assert "okx" in reviewed
    assert edits == 1
    assert server.record.saves == 2
    assert forge.told.comments == [spoof, comment]
    assert (comment.edits, spoof.edits) == (2, 0)
    assert comment.body.startswith(f"<!-- jtr ci {runner.team} -->\n")
    assert "jtr apply: applied, 20" in comment.body.split("\n")[1]
    assert [one[:2] for one in forge.told.statuses] == [(head, "success")]
    assert forge.told.refused == 0
    assert living(rig.bao) == before
    assert list(runner.temp.iterdir()) == []


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_t17_a_job_that_is_cancelled_leaves_no_login(
    runner: Runner, issuer: Issuer, sent: signal.Signals
) -> None:
    issuer.claims = GITHUB
    jtr = Path(runner.variables["PATH"].partition(":")[0]) / "jtr"
    jtr.unlink()
    jtr.write_text('#!/bin/sh\ntouch "$0.runs"\nexec sleep 300\n', "utf-8")
    jtr.chmod(0o755)
    _, (script, own) = github_steps("apply")
    values = {name: runner.settings("apply") if "vars." in v else v for name, v in own.items()}

    step = started(
        script, runner.work, runner.variables | values | issuer.variables, "-o", "pipefail"
    )
    until(lambda: jtr.with_name("jtr.runs").exists())
    held = [path.name for path in runner.temp.glob("*/*")]
    os.killpg(step.pid, sent)
    step.communicate(timeout=60)

    assert sorted(held) == ["settings.yaml", "vault.jwt"]
    assert list(runner.temp.iterdir()) == []
