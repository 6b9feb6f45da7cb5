"""Settings of a server: each one once, with its default and its explanation.

Settings come from flags, from the environment (`WAYMAKER_<NAME>`), from a TOML file and from the defaults below, the first
that names one winning. An unknown name or an impossible value is refused by name and with the place it stands in, never
ignored: a server that runs with another configuration than its operator wrote down is a fault waiting for its day. The
exception are unknown names in the environment, which other programs write to: `unknown_settings` lists them for a warning.

The reference in `docs/operations.md` is generated from here and compared by a test.
"""

# ruff: noqa: RUF009 (the defaults of the settings are immutable; the calls only attach their documentation)

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from waymaker import environment as variables
from waymaker_core.consumer.config import MAX_DELIVER_MAX
from waymaker_core.model.limits import KIB, MIB, Limits

LIMITS_TABLE: Final = "limits"
UNLIMITED: Final = "unlimited"
AUTO: Final = "auto"
OFF: Final = "off"
Word = Literal["auto", "off"]
TRANSPORT_BYTES_MAX: Final = 17 * MIB
"""The largest gRPC message taken in: the largest payload, and room for what surrounds it."""


NODE_ID_MAX: Final = (1 << 63) - 1
MEMBERS_MAX: Final = 7
REPLICAS: Final = (1, 3)
"""The numbers of replicas that a new stream may get."""
ANY_HOST: Final = frozenset(("0.0.0.0", "::", "*"))
"""Hosts that mean every address of this machine, and that no other machine can connect to."""


class ConfigError(Exception):
    """A setting that cannot be used. `setting` is its name, `place` where it was found."""

    def __init__(self, setting: str, place: str, problem: str) -> None:
        super().__init__(f"{place}: {setting}: {problem}" if setting else f"{place}: {problem}")
        self.setting = setting
        self.place = place
        self.problem = problem


class Address(NamedTuple):
    """An address to listen on. Port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Return True if only this machine can reach it. A name other than localhost is not believed to be loopback."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


class ClusterMember(NamedTuple):
    """A member of the cluster: its number, and where the others reach it."""

    node_id: int
    address: Address

    def __str__(self) -> str:
        return f"{self.node_id}={self.address}"


# ---------------------------------------------------------------- values


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected text, not {value!r}")
    return value


def _path(value: object) -> Path:
    text = str(value) if isinstance(value, Path) else _text(value)
    if not text or "\0" in text:
        raise ValueError("expected a path")
    return Path(text)


def _address(value: object) -> Address:
    if isinstance(value, Address):
        return value
    text = _text(value)
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"an IPv6 address stands in brackets, as in [::1]:7411, not {text!r}")
    if not colon or not host:
        raise ValueError(f"expected HOST:PORT, not {text!r}")
    if not (port.isascii() and port.isdigit() and int(port) <= 65_535):
        raise ValueError(f"a port is a number from 0 to 65535, not {port!r}")
    return Address(host, int(port))


def _cluster(value: object) -> tuple[ClusterMember, ...]:
    """Read the members of a cluster, as in `1=HOST:PORT,2=HOST:PORT,3=HOST:PORT`."""
    if isinstance(value, tuple) and all(isinstance(each, ClusterMember) for each in value):
        return value
    found: list[ClusterMember] = []
    for entry in _text(value).split(","):
        number, equals, address = entry.strip().partition("=")
        if not equals or not (number.isascii() and number.isdigit() and 0 < int(number) <= NODE_ID_MAX):
            raise ValueError(f"expected members as 1=HOST:PORT,2=HOST:PORT,3=HOST:PORT, not {entry.strip()!r}")
        found.append(ClusterMember(int(number), _address(address)))
    for what, column in (("number", 0), ("address", 1)):
        values = [str(each[column]) for each in found]
        twice = next((each for each in values if values.count(each) > 1), None)
        if twice is not None:
            raise ValueError(f"two members have the {what} {twice}")
    if any(each.address.port == 0 for each in found):
        raise ValueError("a member's port cannot be 0: the others have to know it")
    if len(found) > MEMBERS_MAX or len(found) % 2 == 0:
        raise ValueError(
            f"a cluster has 1, 3, 5 or 7 members, not {len(found)}: of an even number, no more may fail than of one fewer"
        )
    return tuple(sorted(found))


def _or_word(parse: Callable[[object], object]) -> Callable[[object], object]:
    """Return a parser that also takes `auto` and `off`."""
    return lambda value: value if value in (AUTO, OFF) else parse(value)


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise ValueError(f"expected true or false, not {value!r}")


def _number(low: int, high: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        number = value
        if isinstance(value, str):
            digits = value.replace("_", "")
            if not (digits.isascii() and digits.isdigit() and len(digits) <= 20):
                raise ValueError(f"expected a whole number from {low} to {high}, not {value!r}")
            number = int(digits)
        if not isinstance(number, int) or isinstance(number, bool):
            raise ValueError(f"expected a whole number from {low} to {high}, not {value!r}")
        if not low <= number <= high:
            raise ValueError(f"{number} is not between {low} and {high}")
        return number

    return parse


def _choice(*words: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if value not in words:
            raise ValueError(f"expected one of {', '.join(words)}, not {value!r}")
        return str(value)

    return parse


# ---------------------------------------------------------------- settings


class Setting(NamedTuple):
    """One setting: how to read it, and how to explain it. `metavar` is empty for a switch."""

    name: str
    parse: Callable[[object], object]
    default: object
    metavar: str
    text: str

    @property
    def flag(self) -> str:
        """Return the command line's name for it."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Return the environment's name for it."""
        return variables.PREFIX + self.name.upper()


def _setting(parse: Callable[[object], object], default: object, metavar: str, text: str) -> Any:
    return dataclasses.field(default=default, metadata={"parse": parse, "metavar": metavar, "text": text})


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """A complete configuration: every setting, and the limits of the core."""

    data_dir: Path = _setting(
        _path, None, "DIR", "The data directory. Made where it is missing; one process at a time uses it."
    )
    listen: Address = _setting(
        _address, Address("127.0.0.1", 7411), "HOST:PORT", "Where clients connect. Port 0 lets the system choose."
    )
    link_listen: Address | Word = _setting(
        _or_word(_address),
        AUTO,
        "HOST:PORT",
        "Where the native link is served, which clients find by themselves. auto: beside listen, on the next port or, where "
        "that is taken, on one that the system chooses. off: nowhere.",
    )
    link_socket: Path | Word = _setting(
        _or_word(_path),
        AUTO,
        "FILE",
        "The native link's Unix socket, for clients of the same user on this machine. auto: link.sock in the data directory, "
        "without TLS only. off: none.",
    )
    link_connections_max: int = _setting(
        _number(1, 100_000),
        1_000,
        "N",
        "Connections of the native link at once, and at most half of the files that the process may open; further ones are "
        "refused as RESOURCE_EXHAUSTED.",
    )
    metrics_listen: Address | None = _setting(
        _address,
        None,
        "HOST:PORT",
        "Where /metrics, /livez and /readyz are served, without authentication. Unset: nowhere.",
    )
    tls_cert: Path | None = _setting(
        _path, None, "FILE", "The server's certificate chain, PEM. Together with tls_key turns TLS on."
    )
    tls_key: Path | None = _setting(_path, None, "FILE", "The private key of the certificate, PEM.")
    tokens: Path | None = _setting(
        _path,
        None,
        "FILE",
        "Names and hashes of the bearer tokens that may call. Unset: anyone may. Read again on SIGHUP.",
    )
    insecure_listen_anywhere: bool = _setting(
        _flag,
        False,
        "",
        "Allow other than loopback addresses for listen without both TLS and tokens, where whoever reaches the port owns the "
        "data, for peer_listen without TLS, where it is the same, and for metrics_listen, which has neither.",
    )
    sync: str = _setting(
        _choice("always", "interval"),
        "always",
        "MODE",
        "always: what is answered ok is on disk. "
        "interval: the last moments may be lost with the machine, never with the process.",
    )
    sync_interval_ms: int = _setting(
        _number(1, 60_000), 100, "MS", "With sync = interval, how long a write may wait for its sync."
    )
    grace_ms: int = _setting(
        _number(0, 3_600_000), 10_000, "MS", "How long a stop may take before calls still open are cut."
    )
    node_id: int = _setting(_number(1, NODE_ID_MAX), 1, "N", "The number of this node, as answers and events name it.")
    cluster: tuple[ClusterMember, ...] | None = _setting(
        _cluster,
        None,
        "MEMBERS",
        "All members of the cluster as 1=HOST:PORT,2=HOST:PORT,3=HOST:PORT: their numbers, and where members reach each other. "
        "node_id is one of them. Unset: this server is on its own.",
    )
    cluster_name: str = _setting(
        _text,
        "waymaker",
        "NAME",
        "A name that the members of one cluster share. Members of clusters with other names or numbers refuse each other.",
    )
    peer_listen: Address | None = _setting(
        _address, None, "HOST:PORT", "Where other members connect. Unset: at this member's own address in cluster."
    )
    advertise: Address | None = _setting(
        _address,
        None,
        "HOST:PORT",
        "The address that other members give to clients for this one. Unset: where clients connect (listen).",
    )
    replication_factor: int | None = _setting(
        _number(1, 3),
        None,
        "N",
        "Replicas of a new stream: 1 or 3. Unset: 3, or 1 in a cluster of one.",
    )
    peer_tls_cert: Path | None = _setting(
        _path,
        None,
        "FILE",
        "This member's certificate chain for other members, PEM, for servers and clients both. Together with peer_tls_key and "
        "peer_tls_ca turns mutual TLS between members on.",
    )
    peer_tls_key: Path | None = _setting(_path, None, "FILE", "The private key of that certificate, PEM.")
    peer_tls_ca: Path | None = _setting(
        _path,
        None,
        "FILE",
        "The authorities, PEM, that members' certificates must come from; nothing else is a member.",
    )
    forward_tls_ca: Path | None = _setting(
        _path,
        None,
        "FILE",
        "The authorities, PEM, of the certificates with which other members serve clients, for calls that are sent on to them. "
        "Unset: the system's. Without tls_cert calls are sent on without TLS.",
    )
    log_format: str = _setting(
        _choice("auto", "console", "json"), "auto", "FORMAT", "auto: console on a terminal, JSON elsewhere."
    )
    log_level: str = _setting(
        _choice("debug", "info", "warning", "error"), "info", "LEVEL", "The least severe lines to write."
    )
    calls_per_connection_max: int = _setting(
        _number(1, 100_000),
        100,
        "N",
        "Concurrent calls of one connection, subscriptions included; further ones wait at the client.",
    )
    calls_max: int = _setting(
        _number(1, 1_000_000),
        20_000,
        "N",
        "Concurrent calls of all connections; further ones are refused as RESOURCE_EXHAUSTED.",
    )
    session_window_bytes: int = _setting(
        _number(64 * KIB, 1024 * MIB),
        8 * MIB,
        "BYTES",
        "What one pipeline session may have unanswered, and what may wait to be sent to it.",
    )
    keepalive_ms: int = _setting(
        _number(1_000, 86_400_000), 30_000, "MS", "How long a connection may be silent before it is asked for a sign."
    )
    keepalive_timeout_ms: int = _setting(_number(1_000, 86_400_000), 20_000, "MS", "How long it may take to give one.")
    event_loop: str = _setting(
        _choice(AUTO, "asyncio"), AUTO, "NAME", "auto: uvloop where it is installed. asyncio: the interpreter's own."
    )
    cache_bytes: int = _setting(
        _number(0, 1 << 40), 64 * MIB, "BYTES", "Message bodies kept in memory for readers near the end of a stream."
    )
    limits: Limits = dataclasses.field(default_factory=Limits)

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            missing = "tls_key" if self.tls_key is None else "tls_cert"
            raise ConfigError(missing, "configuration", "tls_cert and tls_key are given together or not at all")
        self._check_cluster()
        if self.insecure_listen_anywhere:
            return
        if self.metrics_listen is not None and not self.metrics_listen.is_loopback:
            raise ConfigError(
                "metrics_listen",
                "configuration",
                f"{self.metrics_listen} can be reached from other machines, and names and figures are served there without "
                "TLS or tokens; listen on 127.0.0.1, or say --insecure-listen-anywhere",
            )
        for name in ("listen", "link_listen"):
            self._check_protected(name)

    @property
    def member_address(self) -> Address:
        """Return where other members connect to this one. Only for a member of a cluster."""
        if self.peer_listen is not None:
            return self.peer_listen
        return next(each.address for each in self.cluster or () if each.node_id == self.node_id)

    @property
    def replicas(self) -> int:
        """Return the number of replicas of a new stream."""
        return self.replication_factor or min(3, len(self.cluster or (None,)))

    def _check_cluster(self) -> None:
        """Refuse settings of a member that contradict each other."""
        if self.cluster is None:
            names = ("peer_listen", "advertise", "replication_factor", "peer_tls_cert", "peer_tls_key", "peer_tls_ca",
                     "forward_tls_ca")  # fmt: skip
            given = next((name for name in names if getattr(self, name) is not None), None)
            if given is not None:
                raise ConfigError(given, "configuration", "only a member of a cluster has it; say --cluster, too")
            return
        ids = [each.node_id for each in self.cluster]
        if self.node_id not in ids:
            named = ", ".join(map(str, ids))
            raise ConfigError("node_id", "configuration", f"{self.node_id} is no member of the cluster of {named}")
        if self.replicas not in REPLICAS or self.replicas > len(ids):
            raise ConfigError(
                "replication_factor", "configuration", f"{self.replicas} is neither 1 nor 3, or more than all members"
            )
        tls = {name: getattr(self, name) for name in ("peer_tls_cert", "peer_tls_key", "peer_tls_ca")}
        missing = [name for name, value in tls.items() if value is None]
        if 0 < len(missing) < len(tls):
            raise ConfigError(missing[0], "configuration", f"{', '.join(tls)} are given together or not at all")
        if self.advertise is None and self.listen.host in ANY_HOST and len(ids) > 1:
            raise ConfigError(
                "advertise",
                "configuration",
                f"clients cannot be sent to {self.listen.host}; say --advertise HOST:PORT with an address they reach",
            )
        address = self.member_address
        if missing and not address.is_loopback and not self.insecure_listen_anywhere:
            raise ConfigError(
                "peer_listen",
                "configuration",
                f"{address} can be reached from other machines, and TLS between members ({', '.join(tls)}) is missing; "
                "add it, or say --insecure-listen-anywhere",
            )

    def _check_protected(self, name: str) -> None:
        """Refuse an address that other machines reach without TLS and tokens."""
        address = getattr(self, name)
        if not isinstance(address, Address) or address.is_loopback:
            return
        lacking = [
            what
            for what, given in (("TLS (tls_cert, tls_key)", self.tls_cert), ("tokens", self.tokens))
            if given is None
        ]
        if lacking:
            raise ConfigError(
                name,
                "configuration",
                f"{address} can be reached from other machines, and {' and '.join(lacking)} "
                f"{'are' if len(lacking) > 1 else 'is'} missing; listen on 127.0.0.1, add what is missing, "
                "or say --insecure-listen-anywhere",
            )


SETTINGS: Final[tuple[Setting, ...]] = tuple(
    Setting(field.name, field.metadata["parse"], field.default, field.metadata["metavar"], field.metadata["text"])
    for field in dataclasses.fields(ServerConfig)
    if field.metadata
)
_BY_NAME: Final = {setting.name: setting for setting in SETTINGS}
_LIMITS: Final = {field.name: field for field in dataclasses.fields(Limits)}
_BY_VARIABLE: Final = {setting.variable: setting for setting in SETTINGS}
_LIMIT_BY_VARIABLE: Final = {f"{variables.PREFIX}{LIMITS_TABLE}_{name}".upper(): name for name in _LIMITS}


# ---------------------------------------------------------------- loading


def load_config(
    flags: Mapping[str, object],
    environment: Mapping[str, str],
    config_file: Path | None = None,
    defaults: Mapping[str, object] | None = None,
) -> ServerConfig:
    """Return the configuration that flags, environment, file and defaults give together.

    `flags` holds what was given on the command line by setting name, None meaning not given; `limits` in it is a mapping
    or a sequence of NAME=VALUE. `defaults` replaces built-in ones (a development server has its own data directory).
    Raises `ConfigError`.
    """
    values: dict[str, object] = {setting.name: setting.default for setting in SETTINGS}
    limits: dict[str, int] = {}
    for name, value in (defaults or {}).items():
        values[name] = _parse(name, value, "defaults")
    if config_file is not None:
        _read_file(config_file, values, limits)
    _read_environment(environment, values, limits)
    for name, value in flags.items():
        if value is None:
            continue
        if name == LIMITS_TABLE:
            _read_limits(value, limits)
        else:
            values[name] = _parse(name, value, "command line")
    if values["data_dir"] is None:
        raise ConfigError("data_dir", "configuration", "no data directory is given; say --data-dir DIR")
    return ServerConfig(**values, limits=_limits(limits))  # type: ignore[arg-type]


def _parse(name: str, value: object, place: str) -> object:
    setting = _BY_NAME.get(name)
    if setting is None:
        raise ConfigError(name, place, "unknown setting" + _suggestion(name, [*_BY_NAME, LIMITS_TABLE]))
    try:
        return setting.parse(value)
    except ValueError as error:
        raise ConfigError(name, place, str(error)) from None


def _parse_limit(name: str, value: object, place: str) -> int:
    if name not in _LIMITS:
        raise ConfigError(f"{LIMITS_TABLE}.{name}", place, "unknown limit" + _suggestion(name, list(_LIMITS)))
    if name == "max_deliver_default" and isinstance(value, str) and value.strip().lower() == UNLIMITED:
        return MAX_DELIVER_MAX
    try:
        return _number(0, (1 << 62) - 1)(value)
    except ValueError as error:
        raise ConfigError(f"{LIMITS_TABLE}.{name}", place, str(error)) from None


def _suggestion(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name.lower(), names, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _read_file(path: Path, values: dict[str, object], limits: dict[str, int]) -> None:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError("", str(path), f"cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("", str(path), f"is not TOML: {error}") from None
    for name, value in content.items():
        if name == LIMITS_TABLE:
            if not isinstance(value, dict):
                raise ConfigError(name, str(path), "expected a table")
            for limit, number in value.items():
                limits[limit] = _parse_limit(limit, number, str(path))
        else:
            values[name] = _beside(path, _parse(name, value, str(path)))


def _beside(file: Path, value: object) -> object:
    """Return a value of a file; a relative path counts from the file's folder, wherever the server is started."""
    return file.parent / value if isinstance(value, Path) else value


def _read_environment(environment: Mapping[str, str], values: dict[str, object], limits: dict[str, int]) -> None:
    """Read the variables that are settings; the others are not ours to judge."""
    for variable in sorted(environment):
        place = f"environment variable {variable}"
        if variable in _BY_VARIABLE:
            name = _BY_VARIABLE[variable].name
            values[name] = _parse(name, environment[variable], place)
        elif variable in _LIMIT_BY_VARIABLE:
            limit = _LIMIT_BY_VARIABLE[variable]
            limits[limit] = _parse_limit(limit, environment[variable], place)


def unknown_settings(environment: Mapping[str, str]) -> list[str]:
    """Return the variables that look like settings and are none, each with the setting that it resembles, if any."""
    unknown = variables.unknown_variables(environment, [*_BY_VARIABLE, *_LIMIT_BY_VARIABLE])
    return [f"{name} (did you mean {near}?)" if near else name for name, near in unknown.items()]


def _read_limits(value: object, limits: dict[str, int]) -> None:
    pairs = value.items() if isinstance(value, Mapping) else [str(v).partition("=")[::2] for v in value]  # type: ignore[attr-defined]
    for name, number in pairs:
        limits[str(name)] = _parse_limit(str(name), number, "command line")


def _limits(values: dict[str, int]) -> Limits:
    try:
        return Limits(**values)
    except AssertionError as error:
        detail = f": {error}" if str(error) else ""
        raise ConfigError(
            LIMITS_TABLE, "configuration", f"{', '.join(sorted(values))} contradict the other limits{detail}"
        ) from None


# ---------------------------------------------------------------- documentation


def reference() -> str:
    """Return the table of settings as it stands in the documentation."""
    lines = ["| Flag | Environment and file | Default | Meaning |", "|---|---|---|---|"]
    for setting in SETTINGS:
        flag = f"{setting.flag} {setting.metavar}".strip()
        default = "" if setting.default is None else f"`{str(setting.default).lower()}`"
        lines.append(f"| `{flag}` | `{setting.variable}`, `{setting.name}` | {default} | {setting.text} |")
    return "\n".join(lines) + "\n"


def limits_reference() -> str:
    """Return the table of limits as it stands in the documentation."""
    lines = ["| Limit | Default |", "|---|---|"]
    lines += [f"| `{field.name}` | {getattr(Limits(), field.name):,} |" for field in dataclasses.fields(Limits)]
    return "\n".join(lines) + "\n"
