"""A repository that is followed, its forge, and a controller that may open pull requests there."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from reconciler.controller.pull_requests import Ask, Opened, PullRequests
from reconciler.documents.edit_position import RequestBlock
from reconciler.model.desired import Afterwards, RequestKind
from reconciler.model.secret import Secret
from reconciler.model.target import Target
from reconciler.model.values import replace
from reconciler.settings.git import CommitStatusSettings, GitSettings, ProposeSettings
from reconciler.system.git_mirror import Remote
from reconciler.system.git_push import Pusher
from tests.support.forge import NUMBER, PROJECT, PULL_TOKEN, ForgeStandIn
from tests.support.repository import Repository

DOCUMENT = """\
# ours; ask Ann
apiVersion: jtr/v1
kind: TradingServer
metadata: {name: tokyo-1}
spec:
  url: https://tokyo-1.internal:8443   # behind the tunnel
  accessSecret: vault:secret/jt/tokyo-1#access_secret
  supervised: true
  exchanges: {bybit: {credentials: "vault:secret/jt/tokyo-1/bybit"}}
"""
AT = datetime(2026, 11, 22, 9, 30, 0, 500_000, tzinfo=UTC)
WISH = RequestBlock(RequestKind.REBOOT, AT, "stale @cache", Afterwards.LEAVE)
ASK = Ask("tokyo-1", Target("https://tokyo-1.internal:8443", "0"), WISH)
NOW = AT + timedelta(seconds=20)


@dataclass
class Office:
    """A repository with one document, its forge, and a controller with that commit in force."""

    home: Path
    forge: ForgeStandIn
    kind: str

    def __post_init__(self) -> None:
        self.repository = Repository(self.home / "forge")
        self.place = self.repository.work / "servers" / "tokyo-1.yaml"
        self.place.parent.mkdir()
        self.place.write_text(DOCUMENT, "utf-8")
        (self.repository.work / "README").write_text("office", "utf-8")
        self.revision = self.repository.commit("Begin")
        gitlab = self.kind == "gitlab"
        api = {"github": self.forge.api, "gitea": self.forge.forgejo, "gitlab": self.forge.gitlab}
        project = NUMBER if gitlab else PROJECT
        self.settings = GitSettings(
            url=f"file://{self.repository.hub}",
            path="servers",
            status=CommitStatusSettings(self.kind, api[self.kind], project, "elsewhere"),
            propose=ProposeSettings("elsewhere"),
        )
        self.pulls = self.controller("state")

    def controller(self, state: str, token: str = PULL_TOKEN) -> PullRequests:
        """Return the part of a controller whose mirror has what is in force."""
        remote = Remote(self.settings.url, self.settings.branch)
        self.mirror = Pusher(remote, self.home / state / "git" / "mirror")
        with self.mirror.held():
            self.mirror.fetch()
        return PullRequests(self.mirror, self.settings, Secret(token), lambda: self.revision)

    def open(
        self, wish: RequestBlock = WISH, by: str = "ann (page)", now: datetime = NOW
    ) -> Opened:
        return asyncio.run(self.pulls.open(replace(ASK, wish=wish), by, now))

    def branches(self) -> dict[str, str]:
        """Commits of the repository's branches."""
        rows = self.repository.git("ls-remote", "--heads", "origin").splitlines()
        return {
            name.removeprefix("refs/heads/"): commit
            for commit, name in (row.split("\t") for row in rows)
        }

    def in_hub(self, *words: str) -> str:
        self.repository.git("fetch", "--quiet", "origin")
        return self.repository.git(*words)
