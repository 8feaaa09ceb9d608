"""New documents: read back as they were meant, and never over another file."""

from pathlib import Path

import pytest

from reconciler.documents.load import load
from reconciler.documents.new import file_of, holds_documents, new_document, write_new
from reconciler.errors import JtrError, UsageError
from reconciler.model.references import SecretRef

URL = "https://tokyo-1.internal:8443"


def ref(text: str) -> SecretRef:
    found = SecretRef.parse(text)
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["tokyo-1", "true", "null", "1", "0x1f", "1e3", "-", "---", "no"])
def test_what_is_written_is_read_back(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / f"{name}.yaml")
    secret = ref("vault:secret/jt/x/bybit")
    text = new_document(
        name,
        URL,
        account="007",
        access_secret=ref("vault:kv/team//jt/x#access_secret"),
        exchanges={"bybit": secret, "1": secret},
        left_out=[("okx", secret, "not there")],
    )
    write_new(path, text)
    (server,) = load([path]).state.servers

    assert (server.name, server.url, server.account) == (name, URL, "007")
    assert str(server.access_secret) == "vault:kv/team//jt/x#access_secret"
    assert {one.code: one.secret for one in server.exchanges} == {"bybit": secret, "1": secret}
    assert "    # not there\n    # okx: {credentials: vault:secret/jt/x/bybit}\n" in text


def test_a_document_without_exchanges_is_one(tmp_path: Path) -> None:
    path = str(tmp_path / "new" / "tokyo-1.yaml")
    write_new(path, new_document("tokyo-1", URL))

    assert load([path]).state.servers[0].exchanges == ()
    assert Path(path).stat().st_mode & 0o777 == 0o644
    assert [one.name for one in (tmp_path / "new").iterdir()] == ["tokyo-1.yaml"]


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "tokyo-1.yaml"
    path.write_text("mine", "utf-8")
    with pytest.raises(UsageError, match="is there already"):
        file_of(str(tmp_path), "tokyo-1")
    with pytest.raises(JtrError, match="somebody else meanwhile"):
        write_new(str(path), "ours")

    assert path.read_text("utf-8") == "mine"
    assert [one.name for one in tmp_path.iterdir()] == ["tokyo-1.yaml"]


def test_a_link_to_nothing_counts_as_there(tmp_path: Path) -> None:
    (tmp_path / "tokyo-1.yaml").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(JtrError):
        write_new(str(tmp_path / "tokyo-1.yaml"), "ours")

    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("name", ["", "../x", "A", "a b", "x" * 64, "a\n"])
def test_what_is_no_name_becomes_no_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="no name"):
        file_of(str(tmp_path), name)


def test_where_nothing_is_are_no_documents(tmp_path: Path) -> None:
    assert not holds_documents(str(tmp_path / "none"))
    (tmp_path / ".hidden.yaml").touch()
    assert not holds_documents(str(tmp_path))
    (tmp_path / "a.yml").touch()
    assert holds_documents(str(tmp_path))
