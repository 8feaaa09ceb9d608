"""
What operators and teams write: documents, settings and policies, nearly right.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from reconciler.bootstrap import load_settings
from reconciler.documents.load import Loaded, load
from reconciler.model.plan import recipients_digest
from reconciler.model.recipients import Recipient
from reconciler.policy.load import load_policy
from reconciler.render.policy import explain_text
from tests.fuzz.bounds import assert_silent, attack, examples
from tests.fuzz.damage import damaged, torn
from tests.support.strategies_config import block_yaml

ROOT: Final = Path(__file__).parents[2]


def documents(path: Path) -> None:
    """Load them, and use what came of it as every command does."""
    loaded: Loaded = load([str(path)])
    loaded.summary()
    recipients_digest(map(Recipient.of, loaded.state.servers))
    for one in loaded.effective.values():
        one.as_document()


def settings(path: Path) -> None:
    load_settings(str(path), {"HOME": "/nowhere"}, [])


def policy(path: Path) -> None:
    """Load it, and judge servers by it as every command does."""
    found = load_policy(str(path))
    for server in SERVERS:
        for one in found.violations(server):
            assert_silent(f"{one.what}{one.remedy}")
        assert_silent(explain_text(found, server))


SERVERS: Final = load([str(ROOT / "examples" / "config.yaml")]).state.servers


READERS: Final[dict[str, tuple[Callable[[Path], None], Sequence[Path]]]] = {
    "documents": (
        documents,
        [
            ROOT / "examples" / "config.yaml",
            *sorted((ROOT / "tests" / "documents" / "cases" / "valid").rglob("*.yaml"))[:12],
        ],
    ),
    "policy": (
        policy,
        [ROOT / "examples" / "policy.yaml", *sorted((ROOT / "examples/policies").glob("*.yaml"))],
    ),
    "settings": (settings, [ROOT / "examples" / "settings.yaml"]),
}


@pytest.mark.parametrize("name", READERS)
@examples(250, 20_000)
def test_nothing_that_people_write_ends_anything(name: str, most: int, tmp_path: Path) -> None:
    read, samples = READERS[name]
    texts = [sample.read_bytes() for sample in samples]
    values: list[Any] = [one for text in texts for one in yaml.safe_load_all(text) if one]
    path = tmp_path / "a.yaml"
    path.touch(0o600)

    def one(data: bytes) -> None:
        path.write_bytes(data)
        read(path)

    written = damaged(values).map(lambda value: block_yaml(value).encode())
    attack(torn(texts) | written, one, most)
