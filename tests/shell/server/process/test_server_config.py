"""Settings: where they come from, which one wins, and how a bad one is named."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from waymaker.server.config import (
    SETTINGS,
    Address,
    ConfigError,
    ServerConfig,
    limits_reference,
    load_config,
    reference,
    unknown_settings,
)
from waymaker_core.model.limits import Limits

DOCS = Path(__file__).resolve().parents[4] / "docs" / "operations.md"
DATA = {"data_dir": "d"}


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "waymaker.toml"
    path.write_text(text)
    return path


def refused(**arguments: object) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_config(**{"flags": DATA, "environment": {}, **arguments})  # type: ignore[arg-type]
    return caught.value


def test_flags_win_over_the_environment_and_that_over_the_file_and_that_over_defaults(tmp_path: Path) -> None:
    file = toml(tmp_path, 'listen = "127.0.0.1:1"\ngrace_ms = 1\nsync_interval_ms = 1\n')
    environment = {"WAYMAKER_LISTEN": "127.0.0.1:2", "WAYMAKER_GRACE_MS": "2"}
    config = load_config({**DATA, "listen": "127.0.0.1:3", "node_id": None}, environment, file)
    assert (config.listen.port, config.grace_ms, config.sync_interval_ms, config.node_id) == (3, 2, 1, 1)


def test_another_default_data_directory_is_only_a_default() -> None:
    assert load_config({}, {}, None, {"data_dir": "here"}).data_dir == Path("here")
    assert load_config({}, {"WAYMAKER_DATA_DIR": "there"}, None, {"data_dir": "here"}).data_dir == Path("there")


def test_without_a_data_directory_nothing_starts() -> None:
    error = refused(flags={})
    assert error.setting == "data_dir"
    assert "--data-dir" in str(error)


def test_an_unknown_setting_is_refused_by_name_and_place_with_the_nearest_known_one(tmp_path: Path) -> None:
    file = toml(tmp_path, 'lisen = "127.0.0.1:1"\n')
    error = refused(config_file=file)
    assert error.setting == "lisen"
    assert str(file) in str(error)
    assert "did you mean listen?" in str(error)


KUBERNETES = {
    "WAYMAKER_PORT": "tcp://10.0.0.1:7411",
    "WAYMAKER_PORT_7411_TCP": "tcp://10.0.0.1:7411",
    "WAYMAKER_PORT_7411_TCP_ADDR": "10.0.0.1",
    "WAYMAKER_PORT_7411_TCP_PORT": "7411",
    "WAYMAKER_PORT_7411_TCP_PROTO": "tcp",
    "WAYMAKER_SERVICE_HOST": "10.0.0.1",
    "WAYMAKER_SERVICE_PORT": "7411",
    "WAYMAKER_SERVICE_PORT_GRPC": "7411",
    "WAYMAKER_LIMITS_SERVICE_HOST": "10.0.0.2",
    "WAYMAKER_LISTEN_PORT": "tcp://10.0.0.3:1",
}
"""What Kubernetes sets beside services called waymaker, waymaker-limits and waymaker-listen."""


def test_variables_that_describe_a_service_of_the_same_name_change_nothing_and_are_named() -> None:
    assert load_config(DATA, KUBERNETES) == load_config(DATA, {})
    assert unknown_settings(KUBERNETES) == sorted(KUBERNETES)


def test_an_unknown_variable_is_named_with_the_setting_it_resembles_and_the_client_s_own_are_left_alone() -> None:
    environment = {"WAYMAKER_GRACE": "1", "WAYMAKER_LIMITS_STREAM_MAX": "1", "WAYMAKER_TOKEN": "secret", "OTHER": "x"}
    assert load_config(DATA, environment) == load_config(DATA, {})
    assert unknown_settings(environment) == [
        "WAYMAKER_GRACE (did you mean WAYMAKER_GRACE_MS?)",
        "WAYMAKER_LIMITS_STREAM_MAX (did you mean WAYMAKER_LIMITS_STREAMS_MAX?)",
    ]
    assert unknown_settings({"WAYMAKER_LISTEN": "", "WAYMAKER_LIMITS_FETCH_MAX": ""}) == []


@pytest.mark.parametrize("variable", ["WAYMAKER_LISTEN", "WAYMAKER_TOKENS", "WAYMAKER_LIMITS_FETCH_MAX"])
def test_a_known_variable_with_an_impossible_value_is_refused(variable: str) -> None:
    assert variable in str(refused(environment={variable: ""}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("listen", "7411"),
        ("listen", "localhost:"),
        ("listen", "::1:7411"),
        ("listen", "127.0.0.1:65536"),
        ("listen", "127.0.0.1:٣"),
        ("listen", 7411),
        ("sync", "never"),
        ("grace_ms", "-1"),
        ("grace_ms", "9" * 30),
        ("grace_ms", "1.5"),
        ("grace_ms", True),
        ("node_id", "0"),
        ("session_window_bytes", "1"),
        ("insecure_listen_anywhere", "perhaps"),
        ("data_dir", ""),
        ("data_dir", "a\0b"),
        ("log_level", "loud"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_setting(name: str, value: object) -> None:
    error = refused(flags={**DATA, name: value})
    assert error.setting == name
    assert error.place == "command line"


def test_a_file_that_is_missing_or_not_toml_is_named(tmp_path: Path) -> None:
    assert "absent.toml" in str(refused(config_file=tmp_path / "absent.toml"))
    assert "not TOML" in str(refused(config_file=toml(tmp_path, "listen = ")))


def test_limits_come_from_every_place_and_contradictions_are_refused(tmp_path: Path) -> None:
    file = toml(tmp_path, "[limits]\nheaders_max = 5\nfetch_max = 100\n")
    config = load_config({**DATA, "limits": ["fetch_max=50"]}, {"WAYMAKER_LIMITS_STREAMS_MAX": "7"}, file)
    assert (config.limits.headers_max, config.limits.fetch_max, config.limits.streams_max) == (5, 50, 7)
    assert "limits.header_max" in str(refused(flags={**DATA, "limits": ["header_max=5"]}))
    assert refused(flags={**DATA, "limits": {"fetch_max": 0}}).setting == "limits"
    assert refused(config_file=toml(tmp_path, "limits = 3\n")).setting == "limits"


def test_addresses_keep_their_brackets() -> None:
    assert str(load_config({**DATA, "listen": "[::1]:0"}, {}).listen) == "[::1]:0"
    assert str(Address("127.0.0.1", 5)) == "127.0.0.1:5"


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.0.2.1", "example.org"])
def test_other_machines_are_let_near_only_with_tls_and_tokens_or_in_so_many_words(host: str) -> None:
    flags: dict[str, object] = {**DATA, "listen": f"{host}:7411"}
    assert "--insecure-listen-anywhere" in str(refused(flags=flags))
    assert "tokens is missing" in str(refused(flags={**flags, "tls_cert": "c", "tls_key": "k"}))
    assert "TLS" in str(refused(flags={**flags, "tokens": "t"}))
    assert load_config({**flags, "insecure_listen_anywhere": True}, {}).listen.port == 7411
    assert load_config({**flags, "tls_cert": "c", "tls_key": "k", "tokens": "t"}, {}).tokens == Path("t")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "[::1]"])
def test_loopback_needs_neither(host: str) -> None:
    assert load_config({**DATA, "listen": f"{host}:1"}, {}).listen.port == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.0.2.1", "example.org"])
def test_metrics_are_guarded_like_the_calls(host: str) -> None:
    secured = {"tls_cert": "c", "tls_key": "k", "tokens": "t", "listen": "0.0.0.0:1"}
    for flags in ({}, secured):
        with pytest.raises(ConfigError, match=r"metrics_listen.*--insecure-listen-anywhere"):
            load_config({"data_dir": "d", "metrics_listen": f"{host}:1", **flags}, {})
    wanted = {"data_dir": "d", "metrics_listen": f"{host}:1", "insecure_listen_anywhere": True}
    assert load_config(wanted, {}).metrics_listen is not None
    assert load_config({"data_dir": "d", "metrics_listen": "127.0.0.1:1"}, {}).metrics_listen is not None


def test_relative_paths_count_from_the_file_that_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "w.toml").write_text(
        'data_dir = "data"\ntls_cert = "../tls/c.pem"\ntls_key = "/k.pem"\ntokens = "tokens"\n'
    )
    monkeypatch.chdir(tmp_path)
    config = load_config({"tokens": "t"}, {}, Path("etc/w.toml"))
    assert config.data_dir.resolve() == folder / "data"
    assert config.tls_cert is not None
    assert config.tls_cert.resolve() == tmp_path / "tls" / "c.pem"
    assert (config.tls_key, config.tokens) == (Path("/k.pem"), Path("t"))


def test_unlimited_deliveries_are_said_with_the_word(tmp_path: Path) -> None:
    (tmp_path / "w.toml").write_text('data_dir = "d"\n[limits]\nmax_deliver_default = "unlimited"\n')
    assert load_config({}, {}, tmp_path / "w.toml").limits.max_deliver_default == (1 << 32) - 1
    with pytest.raises(ConfigError, match="max_deliver_default"):
        load_config({"data_dir": "d", "limits": ["max_deliver_default=0"]}, {})
    with pytest.raises(ConfigError, match="streams_max"):
        load_config({"data_dir": "d", "limits": ["streams_max=unlimited"]}, {})


def test_half_a_certificate_is_refused() -> None:
    assert refused(flags={**DATA, "tls_cert": "c"}).setting == "tls_key"
    assert refused(flags={**DATA, "tls_key": "k"}).setting == "tls_cert"


def test_every_default_is_a_value_that_its_own_parser_takes() -> None:
    for setting in SETTINGS:
        if setting.default is not None:
            assert setting.parse(setting.default) == setting.default
    assert {s.name for s in SETTINGS} | {"limits"} == {f.name for f in dataclasses.fields(ServerConfig)}


def test_the_documentation_holds_the_tables_that_the_code_makes() -> None:
    text = DOCS.read_text()
    assert reference() in text
    assert limits_reference() in text
    assert f"`{dataclasses.fields(Limits)[0].name}`" in text
