"""Settings, and what keeps a server from starting."""

from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.testclient import TestClient

from api.app import create_app, from_environment
from api.settings import Settings, SettingsError, WitnessAddress
from ledger.checkpoint import decode_witness_key, encode_verifier_key, encode_witness_key
from ledger.keyring import KeyFileError, save_private_key
from ledger.operations import ReplaceLogKey
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
    assert settings.other_log_key_files == ()
    assert settings.graphiql
    assert not settings.public_entries
    assert settings.max_body_bytes == 8 * 1024 * 1024
    moved = Settings.from_environment({"GUERDON_DATA": "/var/lib/guerdon", "GUERDON_ORIGIN": "a.example/b"})
    assert moved.database_url == "sqlite:////var/lib/guerdon/ledger.sqlite"
    assert moved.origin == "a.example/b"


def test_defaults_of_limits_are_those_the_readme_tells() -> None:
    """And those of settings that are made without an environment."""
    settings = Settings.from_environment({})
    bare = Settings(data=Path(), database_url="", log_key_file=Path())
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    limits = readme[readme.index("\n## Limits\n") : readme.index("\n## How fast\n")]
    names = ["max_tokens", "max_depth", "max_aliases", "max_directives", "max_root_fields", "max_cost", "rate_cost"]
    for name in [*names, "rate_operations", "body_timeout_s", "query_timeout_s", "max_body_bytes"]:
        value = getattr(settings, name)
        assert getattr(bare, name) == value
        assert f"{value:,}" in limits or f"{value // 2**20} MiB" in limits, name


def test_values_are_read() -> None:
    environ = {
        "GUERDON_DATABASE_URL": "postgresql://guerdon@db/guerdon",
        "GUERDON_LOG_KEY_FILE": "/run/log.pem",
        "GUERDON_OTHER_LOG_KEY_FILES": "/run/next.pem:old.pem",
        "GUERDON_PROFILE_KEY_FILE": "/run/profile.pem",
        "GUERDON_OTHER_PROFILE_KEY_FILES": "/run/profile-1.pem",
        "GUERDON_KEY_PASSPHRASE_FILE": "/run/passphrase",
        "GUERDON_GRAPHIQL": "False",
        "GUERDON_MAX_BODY_BYTES": "2048",
        "GUERDON_READERS": "2",
        "GUERDON_PUBLIC_ENTRIES": "true",
        "GUERDON_MAX_COST": "500",
        "GUERDON_WEBHOOK_NETWORKS": "127.0.0.0/8 fd00::/8",
        "GUERDON_WEBHOOK_HTTP": "yes",
        "GUERDON_WEBHOOK_DISABLE_AFTER_DAYS": "2",
        "GUERDON_MAX_DIRECTIVES": "0",
        "GUERDON_MAX_ROOT_FIELDS": "5",
        "GUERDON_INTROSPECTION": "off",
        "GUERDON_DOCUMENTS": "AllowList",
        "GUERDON_DOCUMENTS_FILE": "/etc/guerdon/documents.json",
        "GUERDON_RATE_COST_PER_MINUTE": "1000",
        "GUERDON_RATE_OPERATIONS_PER_MINUTE": "0",
        "GUERDON_TRUSTED_PROXIES": " 10.0.0.0/8  192.0.2.1 2001:db8::/32 ",
        "GUERDON_BODY_TIMEOUT_S": "5",
        "GUERDON_QUERY_TIMEOUT_S": "7",
        "GUERDON_MAX_SUBSCRIPTIONS": "10",
        "GUERDON_MAX_SUBSCRIPTIONS_PER_ACCOUNT": "0",
        "GUERDON_STREAM_PING_S": "3",
        "GUERDON_STREAM_TIMEOUT_S": "4",
    }
    settings = Settings.from_environment(environ)
    assert settings.log_key_file == Path("/run/log.pem")
    assert settings.other_log_key_files == (Path("/run/next.pem"), Path("old.pem"))
    assert settings.profile_key_file == Path("/run/profile.pem")
    assert settings.other_profile_key_files == (Path("/run/profile-1.pem"),)
    assert settings.key_passphrase_file == Path("/run/passphrase")
    assert (settings.graphiql, settings.max_body_bytes, settings.readers) == (False, 2048, 2)
    assert settings.public_entries
    assert (settings.max_cost, settings.max_directives, settings.max_root_fields) == (500, 0, 5)
    assert not settings.introspection
    assert settings.only_listed_documents
    assert settings.documents_file == Path("/etc/guerdon/documents.json")
    assert (settings.rate_cost, settings.rate_operations) == (1000, 0)
    assert [str(network) for network in settings.trusted_proxies] == ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32"]
    assert (settings.body_timeout_s, settings.query_timeout_s) == (5, 7)
    assert (settings.max_subscriptions, settings.max_subscriptions_per_account) == (10, 0)
    assert (settings.stream_ping_s, settings.stream_timeout_s) == (3, 4)
    assert settings.webhook_networks == (ip_network("127.0.0.0/8"), ip_network("fd00::/8"))
    assert (settings.webhook_http, settings.webhook_disable_after_days) == (True, 2)


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
        ("GUERDON_WEBHOOK_NETWORKS", "10.0.0.1/8"),
        ("GUERDON_WEBHOOK_NETWORKS", "localhost"),
        ("GUERDON_WEBHOOK_HTTP", "perhaps"),
        ("GUERDON_WEBHOOK_DISABLE_AFTER_DAYS", "0"),
        ("GUERDON_INTROSPECTION", "production"),
        ("GUERDON_DOCUMENTS", "closed"),
        ("GUERDON_DOCUMENTS", "allowlist"),
        ("GUERDON_RATE_COST_PER_MINUTE", "-1"),
        ("GUERDON_RATE_OPERATIONS_PER_MINUTE", "1/s"),
        ("GUERDON_TRUSTED_PROXIES", "proxy.example"),
        ("GUERDON_TRUSTED_PROXIES", "10.0.0.1/8"),
        ("GUERDON_TRUSTED_PROXIES", "*"),
        ("GUERDON_BODY_TIMEOUT_S", "0"),
        ("GUERDON_QUERY_TIMEOUT_S", "0.5"),
        ("GUERDON_MAX_SUBSCRIPTIONS", "many"),
        ("GUERDON_MAX_SUBSCRIPTIONS_PER_ACCOUNT", "-1"),
        ("GUERDON_STREAM_PING_S", "0"),
        ("GUERDON_STREAM_TIMEOUT_S", "0"),
        ("GUERDON_OTHER_LOG_KEY_FILES", "a.pem:"),
        ("GUERDON_OTHER_LOG_KEY_FILES", "a.pem::b.pem"),
    ],
)
def test_bad_value_names_its_variable(name: str, value: str) -> None:
    """And says what would do."""
    with pytest.raises(SettingsError, match=rf"^{name} is '.*': use "):
        Settings.from_environment({name: value})


def vkey(number: int, name: str | None = None) -> str:
    """The verifier key of a witness."""
    key = Ed25519PrivateKey.from_private_bytes(bytes([100 + number]) * 32)
    return encode_witness_key(name or f"witness.example/w{number}", key)


def test_witnesses_are_read() -> None:
    """Each a verifier key and an address, perhaps with port and path; the quorum is most of them, unless stated."""
    urls = ["http://127.0.0.1:8200", "https://witness.example/w2/", "https://[::1]:99/a/b"]
    value = "  ".join(f"{vkey(number)}@{url}" for number, url in enumerate(urls))
    settings = Settings.from_environment({"GUERDON_WITNESSES": value})
    assert [witness.url for witness in settings.witnesses] == urls
    assert [witness.key for witness in settings.witnesses] == [decode_witness_key(vkey(i)) for i in range(3)]
    assert (settings.witness_quorum, settings.witness_interval_s) == (2, 10)
    more = {"GUERDON_WITNESSES": value, "GUERDON_WITNESS_QUORUM": "3", "GUERDON_WITNESS_INTERVAL_S": "60"}
    settings = Settings.from_environment(more)
    assert (settings.witness_quorum, settings.witness_interval_s) == (3, 60)
    for count, majority in ((1, 1), (2, 2)):
        some = " ".join(value.split()[:count])
        assert Settings.from_environment({"GUERDON_WITNESSES": some}).witness_quorum == majority
    none = Settings.from_environment({"GUERDON_WITNESSES": " "})
    assert (none.witnesses, none.witness_quorum) == ((), 0)


def test_name_of_a_witness_may_have_an_at() -> None:
    """The first @ behind the base64 divides."""
    named = vkey(1, "w1@witness.example")
    (witness,) = Settings.from_environment({"GUERDON_WITNESSES": f"{named}@http://127.0.0.1"}).witnesses
    assert (witness.key.name, witness.url) == ("w1@witness.example", "http://127.0.0.1")


URL = "https://witness.example"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("x", "use <verifier key>@<address>"),
        (vkey(1), "use <verifier key>@<address>"),
        (f"@{URL}", "use <verifier key>@<address>"),
        (f"{vkey(1)} @ {URL}", "use <verifier key>@<address>"),
        (f"{vkey(1)}@{URL},{vkey(2)}@{URL}", "use an address like"),
        (f"{vkey(1)[:-6]}AAAA=@{URL}", "use a witness's verifier key"),
        (f"{encode_verifier_key('witness.example', Ed25519PrivateKey.from_private_bytes(bytes(32)))}@{URL}", "0x04"),
        (f"{vkey(1)}@witness.example", "use an address like"),
        (f"{vkey(1)}@ftp://witness.example", "use an address like"),
        (f"{vkey(1)}@https://", "use an address like"),
        (f"{vkey(1)}@https://:80", "use an address like"),
        (f"{vkey(1)}@https://witness.example:0", "use an address like"),
        (f"{vkey(1)}@https://witness.example:port", "use an address like"),
        (f"{vkey(1)}@https://witness.example:70000", "use an address like"),
        (f"{vkey(1)}@https://user:secret@witness.example", "use an address like"),
        (f"{vkey(1)}@https://witness.example/?a=b", "use an address like"),
        (f"{vkey(1)}@https://witness.example/#a", "use an address like"),
        (f"{vkey(1)}@https://[::1", "use an address like"),
        (f"{vkey(1)}@https://wítness.example", "use an address like"),
        (f"{vkey(1)}@{URL} {vkey(1)}@{URL}", "two witnesses of one name or key"),
        (f"{vkey(1)}@{URL} {vkey(1, 'alias.example')}@{URL}", "two witnesses of one name or key"),
        (f"{vkey(1)}@{URL} {vkey(2, 'witness.example/w1')}@{URL}", "two witnesses of one name or key"),
        (" ".join(f"{vkey(number)}@{URL}" for number in range(33)), "use at most 32"),
    ],
)
def test_bad_witnesses_are_refused(value: str, said: str) -> None:
    """By name of the variable, with what would do."""
    with pytest.raises(SettingsError, match=r"^GUERDON_WITNESSES ") as refused:
        Settings.from_environment({"GUERDON_WITNESSES": value})
    assert said in str(refused.value)


@pytest.mark.parametrize("quorum", ["0", "3", "-1", "all", "1.5"])
def test_bad_quorum_is_refused(quorum: str) -> None:
    """One to as many as there are."""
    value = f"{vkey(1)}@{URL} {vkey(2)}@{URL}"
    with pytest.raises(SettingsError, match=r"^GUERDON_WITNESS_QUORUM is '.*': use a whole number from 1 to 2"):
        Settings.from_environment({"GUERDON_WITNESSES": value, "GUERDON_WITNESS_QUORUM": quorum})


def test_quorum_without_witnesses_is_refused() -> None:
    """It was meant to mean something."""
    with pytest.raises(SettingsError, match=r"^GUERDON_WITNESS_QUORUM is '1': use it with GUERDON_WITNESSES"):
        Settings.from_environment({"GUERDON_WITNESS_QUORUM": "1"})


@pytest.mark.parametrize("interval", ["0", "3601", "1.5", "ten"])
def test_bad_interval_is_refused(interval: str) -> None:
    with pytest.raises(SettingsError, match=r"^GUERDON_WITNESS_INTERVAL_S is '.*': use a whole number from 1 to 3600"):
        Settings.from_environment({"GUERDON_WITNESS_INTERVAL_S": interval})


def test_server_does_not_start_with_its_own_log_as_a_witness(world: World, tmp_path: Path) -> None:
    """Which only the ledger can tell."""
    save_private_key(tmp_path / "log.pem", world.log_key, None)
    own = decode_witness_key(encode_witness_key("own.example", world.log_key))
    given = settings_of(world, tmp_path, witnesses=(WitnessAddress(key=own, url=URL),), witness_quorum=1)
    with pytest.raises(SettingsError, match="GUERDON_WITNESSES: each witness has a key of its own"):
        start(given, world)


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
    with pytest.raises(StoreError, match="set GUERDON_LOG_KEY_FILE to the file of that key"):
        start(settings_of(world, tmp_path, log_key_file=tmp_path / "other.pem"), world)
    save_private_key(tmp_path / "log.pem", world.log_key, b"secret words")
    with pytest.raises(KeyFileError, match="give its passphrase"):
        start(settings_of(world, tmp_path), world)
    (tmp_path / "passphrase").write_text("secret words\n")
    start(settings_of(world, tmp_path, key_passphrase_file=tmp_path / "passphrase"), world)


def test_server_has_other_log_keys_while_one_is_replaced(world: World, tmp_path: Path) -> None:
    """Whichever of its files holds the key in force, it starts and signs with the others the log has had."""
    old, new = world.log_key, world.make_key()
    save_private_key(tmp_path / "old.pem", old, None)
    save_private_key(tmp_path / "new.pem", new, None)
    changing = settings_of(
        world, tmp_path, log_key_file=tmp_path / "new.pem", other_log_key_files=(tmp_path / "old.pem",)
    )
    start(changing, world)
    world.restart(old, new)
    world.record(world.operator.sign(ReplaceLogKey, log_key=encode_verifier_key(world.origin, new)))
    start(changing, world)
    with pytest.raises(StoreError, match="set GUERDON_LOG_KEY_FILE"):
        start(settings_of(world, tmp_path, log_key_file=tmp_path / "old.pem"), world)
    with pytest.raises(KeyFileError, match="cannot be read"):
        start(settings_of(world, tmp_path, log_key_file=tmp_path / "new.pem", other_log_key_files=(tmp_path,)), world)


def test_ledger_is_chosen_when_there_are_several(world: World, tmp_path: Path) -> None:
    """The only one is found by itself."""
    save_private_key(tmp_path / "log.pem", world.log_key, None)
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
