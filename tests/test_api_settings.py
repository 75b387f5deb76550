"""Settings, and what keeps a server from starting."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from api.app import create_app, from_environment
from api.settings import Settings, SettingsError
from ledger.keyring import KeyFileError, save_private_key
from ledger.store import StoreError, open_engine
from tests.service import running
from tests.worlds import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """On SQLite alone: nothing here depends on the database."""
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world:
        yield world


def test_defaults_lie_in_the_data_folder() -> None:
    """Nothing has to be set."""
    settings = Settings.from_environment({})
    assert settings.database_url == "sqlite:///.guerdon/ledger.sqlite"
    assert settings.log_key_file == Path(".guerdon/keys/log.pem")
    assert settings.graphiql
    assert not settings.public_entries
    assert settings.max_body_bytes == 8 * 1024 * 1024
    moved = Settings.from_environment({"GUERDON_DATA": "/var/lib/guerdon", "GUERDON_ORIGIN": "a.example/b"})
    assert moved.database_url == "sqlite:////var/lib/guerdon/ledger.sqlite"
    assert moved.origin == "a.example/b"


def test_values_are_read() -> None:
    environ = {
        "GUERDON_DATABASE_URL": "postgresql://guerdon@db/guerdon",
        "GUERDON_LOG_KEY_FILE": "/run/log.pem",
        "GUERDON_KEY_PASSPHRASE_FILE": "/run/passphrase",
        "GUERDON_GRAPHIQL": "False",
        "GUERDON_MAX_BODY_BYTES": "2048",
        "GUERDON_READERS": "2",
        "GUERDON_PUBLIC_ENTRIES": "true",
        "GUERDON_MAX_COST": "500",
    }
    settings = Settings.from_environment(environ)
    assert settings.key_passphrase_file == Path("/run/passphrase")
    assert (settings.graphiql, settings.max_body_bytes, settings.readers) == (False, 2048, 2)
    assert settings.public_entries
    assert settings.max_cost == 500


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GUERDON_GRAPHIQL", "maybe"),
        ("GUERDON_PUBLIC_ENTRIES", "all"),
        ("GUERDON_MAX_BODY_BYTES", "2M"),
        ("GUERDON_MAX_BODY_BYTES", "-1"),
        ("GUERDON_MAX_TOKENS", "0"),
        ("GUERDON_MAX_DEPTH", "1.5"),
        ("GUERDON_MAX_ALIASES", "²"),
        ("GUERDON_MAX_COST", "0"),
        ("GUERDON_READERS", "1000"),
    ],
)
def test_bad_value_names_its_variable(name: str, value: str) -> None:
    """And says what would do."""
    with pytest.raises(SettingsError, match=rf"^{name} is '.*': use "):
        Settings.from_environment({name: value})


def start(settings: Settings, world: World) -> None:
    with TestClient(create_app(settings, world.clock)):
        pass


def settings_of(world: World, folder: Path, **changes: object) -> Settings:
    given = {"data": folder, "database_url": world.url, "log_key_file": folder / "log.pem"}
    return Settings(**(given | changes))  # type: ignore[arg-type]


def test_server_without_its_key_does_not_start(world: World, tmp_path: Path) -> None:
    """Missing, another ledger's, readable by others, or locked."""
    with pytest.raises(KeyFileError, match="cannot be read"):
        start(settings_of(world, tmp_path), world)
    save_private_key(tmp_path / "other.pem", world.make_key(), None)
    with pytest.raises(StoreError, match="use the key init made"):
        start(settings_of(world, tmp_path, log_key_file=tmp_path / "other.pem"), world)
    save_private_key(tmp_path / "log.pem", world.log_key, b"secret words")
    with pytest.raises(KeyFileError, match="give its passphrase"):
        start(settings_of(world, tmp_path), world)
    (tmp_path / "passphrase").write_text("secret words\n")
    start(settings_of(world, tmp_path, key_passphrase_file=tmp_path / "passphrase"), world)


def test_ledger_is_chosen_when_there_are_several(world: World, tmp_path: Path) -> None:
    """The only one is found by itself."""
    with running(world, tmp_path) as service:
        assert service.query("{ ledger { size } }")
    with World(world.url, origin="ledger.example/second", seed=1):
        with pytest.raises(SettingsError, match=r"^GUERDON_ORIGIN: .*ledger\.example/second"):
            start(settings_of(world, tmp_path), world)
        with running(world, tmp_path, origin=world.origin) as service:
            assert service.query("{ ledger { origin } }") == {"ledger": {"origin": world.origin}}
        with pytest.raises(StoreError, match="no ledger"):
            start(settings_of(world, tmp_path, origin="ledger.example/third"), world)


def test_empty_database_does_not_start(world: World, tmp_path: Path) -> None:
    """It says what to run."""
    save_private_key(tmp_path / "log.pem", world.log_key, None)
    with pytest.raises(StoreError, match="run guerdon init"):
        start(settings_of(world, tmp_path, database_url=f"sqlite:///{tmp_path / 'empty.sqlite'}"), world)
    with World(f"sqlite:///{tmp_path / 'bare.sqlite'}") as bare:
        pass
    engine = open_engine(bare.url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM head")
    engine.dispose()
    with pytest.raises(StoreError, match="there is no ledger in this database"):
        start(settings_of(world, tmp_path, database_url=bare.url), world)


def test_application_is_made_from_the_environment(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As uvicorn's workers make it."""
    save_private_key(tmp_path / "keys" / "log.pem", world.log_key, None)
    monkeypatch.setenv("GUERDON_DATA", str(tmp_path))
    with TestClient(from_environment()) as client:
        assert client.get("/readyz").status_code == 200
