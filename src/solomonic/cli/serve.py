"""`solomonic serve`: models for clients that exist, and the page; `solomonic serve keys ...`."""

from __future__ import annotations

import importlib
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from solomonic.cli import console
from solomonic.cli.options import Settings
from solomonic.cli.serve_users import users_app
from solomonic.core import ConfigError

if TYPE_CHECKING:
    from solomonic.serve.config import ServeConfig
    from solomonic.serve.keys import KeySource
    from solomonic.serve.services import Services

app = typer.Typer(help="Serve models to clients of OpenAI and Vosk, and a page for browsers.")
keys_app = typer.Typer(
    help="API keys: made once, shown once, kept as a hash.", no_args_is_help=True
)
app.add_typer(keys_app, name="keys")
app.add_typer(users_app, name="users")

NONE = "none"
NEEDED = ("fastapi", "httptools", "prometheus_client", "python_multipart", "sqlalchemy", "uvicorn",
          "websockets")  # fmt: skip
"""What `solomonic[serve]` brings; without some of them the server would start and lack a part."""
StoreUrl = Annotated[
    str,
    typer.Option(metavar="FILE|URL", help="Where users and keys are kept (default: in memory)."),
]
KeyFileOption = Annotated[
    str, typer.Option("--api-key-file", metavar="FILE", help="Keys, instead of those of the store.")
]


@app.callback(invoke_without_command=True)
def serve(
    context: typer.Context,
    asr: Annotated[
        str | None,
        typer.Option(metavar="M", help="Recogniser: folder or .solo; none (default: our own)."),
    ] = None,
    lm: Annotated[
        str | None,
        typer.Option(metavar="M", help="Language model: folder or .solo; none (default: our own)."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0: any free one.")] = 8080,
    store: StoreUrl = "",
    api_key_file: KeyFileOption = "",
    allow_anonymous: Annotated[
        bool, typer.Option("--allow-anonymous", help="Let a network in without keys.")
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A name clients know it by; may be repeated."),
    ] = None,
    tls_cert: Annotated[str, typer.Option(metavar="FILE", help="Certificate, PEM.")] = "",
    tls_key: Annotated[str, typer.Option(metavar="FILE", help="Its key, PEM.")] = "",
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="Pages of another server that may ask; may be repeated."),
    ] = None,
    local_only: Annotated[
        bool, typer.Option("--local-only", help="This machine only; no audio over the network.")
    ] = False,
    rerank_weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Weights of `tune-rerank`.")
    ] = None,
    threads: Annotated[int, typer.Option(help="Of one step of a model.")] = 1,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
    settings: Settings = None,
) -> None:
    """Serve until a signal comes; then let what runs end.

    What runs is told on standard output, logs are JSON lines on standard error.
    """
    if context.invoked_subcommand is not None:
        return
    check_installed()
    from solomonic.serve.config import ServeConfig
    from solomonic.serve.guard import allowed_hosts

    record = {
        "host": host, "port": port, "store": store, "api_key_file": api_key_file,
        "allow_anonymous": allow_anonymous, "hosts": allowed_hosts(allow_host or []),
        "tls_cert": tls_cert, "tls_key": tls_key, "cors_origins": tuple(cors_origin or ()),
        "local_only": local_only, "log_level": log_level,
    }  # fmt: skip
    config = ServeConfig.from_json(record | console.parse_settings(settings or []))
    run(config, asr, lm, rerank_weights, threads)


def run(
    config: ServeConfig, asr: str | None, lm: str | None, weights: Path | None, threads: int
) -> None:
    """Load, listen, tell what runs, and serve.

    Raises:
        ConfigError: something that is asked for cannot be; SolomonicError: of what is loaded.
    """
    from solomonic.serve import local, logs
    from solomonic.serve.app import create_app
    from solomonic.serve.lm.loaded import load_lm
    from solomonic.serve.loading import load_asr, load_reranker
    from solomonic.serve.server import make_server
    from solomonic.serve.store import open_store

    if weights is not None and lm == NONE:
        raise ConfigError("--rerank-weights need a language model; leave --lm none out.")
    local.check(config)
    _check_tls(config)
    logs.configure(config.log_level)
    with _listen(config) as listening, _closing(open_store(config.store or None)) as store:
        config = config.replace(port=listening.getsockname()[1])
        speech = None if asr == NONE else load_asr(asr, threads=threads)
        language = None if lm == NONE else load_lm(lm, threads=threads)
        reranker = None if language is None else load_reranker(language, weights, _path(asr))
        application = create_app(config, asr=speech, lm=language, store=store, reranker=reranker)
        services = application.state.services
        keys = services.keys
        _check_open(config, keys.required)
        if config.local_only:
            local.forbid_connections()
        for line in describe(services):
            print(line, flush=True)
        count = len(list(keys.source.keys())) if keys.source else 0
        print(f"  keys       {_keys_line(config, keys.required, count)}", flush=True)
        server = make_server(application, config)
        server.run(sockets=[listening])
    if server.interrupted:
        raise typer.Exit(130)


def describe(services: Services) -> list[str]:
    """What runs, for people."""
    from solomonic import __version__

    config, asr, lm, reranker = services.config, services.asr, services.lm, services.reranker
    lines = [f"solomonic {__version__}: {config.url}  (stop with Ctrl-C)"]
    if asr is None:
        lines.append("  speech     none")
    else:
        about = asr.describe()
        lines.append(
            f"  speech     {services.asr_name}: {about['parameters']:,} parameters, native core, "
            f"{about['kernels']}"
        )
    lines.append("  language   none" if lm is None else f"  language   {lm.name}: {lm.engine}")
    if reranker is not None:
        scale = reranker.config.lm_scale
        lines.append(
            f"  reranking  of lattices, the language model counting {scale:.2g}; weights "
            f"{reranker.origin}"
        )
    kept = config.store.rpartition("@")[2] if config.store else "memory, and gone when it ends"
    lines.append(f"  store      {kept}")
    lines.append(
        f"  limits     {config.max_streams} streams, {config.max_batch} texts at once and "
        f"{config.max_queue} waiting, {config.requests_per_minute} requests a minute and client, "
        f"{console.show_bytes(config.max_body_bytes)} an upload"
    )
    if config.local_only:
        lines.append("  mode       local only: takes no audio, connects to no other machine")
    return lines


@keys_app.command("add")
def add_key(
    name: Annotated[str, typer.Argument(help="What to call it, in logs and lists.")],
    store: StoreUrl = "",
    api_key_file: KeyFileOption = "",
    user: Annotated[str, typer.Option(help="The only user it may act for.")] = "",
    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=N",
            help="requests_per_minute, max_streams or max_requests; may be repeated.",
        ),
    ] = None,
) -> None:
    """Make a key and print it: it cannot be shown again."""
    from solomonic.serve.keys import issue_key

    with _closing(_source(store, api_key_file)) as source:
        print(issue_key(source, name, user, console.parse_settings(limit or [])))
    console.say(f"keep it safe: only its hash is stored, under the name {name}.")


@keys_app.command("list")
def list_keys(store: StoreUrl = "", api_key_file: KeyFileOption = "") -> None:
    """Names, users and limits of all keys, one a line."""
    with _closing(_source(store, api_key_file)) as source:
        for key in source.keys():  # noqa: SIM118 (no mapping)
            limits = " ".join(f"{name}={value}" for name, value in key.limits.items())
            print(f"{key.name}\t{key.user or '-'}\t{limits or '-'}")


@keys_app.command("revoke")
def revoke_key(
    name: Annotated[str, typer.Argument(help="The key's name.")],
    store: StoreUrl = "",
    api_key_file: KeyFileOption = "",
) -> None:
    """Let a key in no more. A running server knows it within seconds."""
    with _closing(_source(store, api_key_file)) as source:
        if not source.revoke_key(name):
            raise ConfigError(f"there is no key '{name}'; `solomonic serve keys list` names them.")
    console.say(f"revoked {name}.")


def _source(store: str, api_key_file: str) -> KeySource:
    check_installed()
    from solomonic.serve.keys import KeyFile
    from solomonic.serve.store import open_store

    if bool(store) == bool(api_key_file):
        raise ConfigError("say where keys are: either --store or --api-key-file.")
    return KeyFile(api_key_file) if api_key_file else open_store(store)


class _closing:
    """Closes what can be closed."""

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __enter__(self) -> Any:
        return self.thing

    def __exit__(self, *_: object) -> None:
        if hasattr(self.thing, "close"):
            self.thing.close()


def _path(asr: str | None) -> str | None:
    return None if asr == NONE else asr


def check_installed() -> None:
    """What `solomonic[serve]` brings is here; else one sentence."""
    for name in NEEDED:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ConfigError(
                f"serving needs {error.name}, which is not installed; install it with "
                "`pip install 'solomonic[serve]'`."
            ) from error


def _check_tls(config: ServeConfig) -> None:
    if not config.tls_cert:
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
            config.tls_cert, config.tls_key
        )
    except (OSError, ssl.SSLError) as error:
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise ConfigError(
            f"TLS cannot use {config.tls_cert} and {config.tls_key} ({why}); give PEM files that "
            "belong together."
        ) from error


def _check_open(config: ServeConfig, keys: bool) -> None:
    if not (config.loopback or keys or config.allow_anonymous):
        raise ConfigError(
            f"{config.host} is reached from other machines and there are no API keys; make one "
            "with `solomonic serve keys add NAME --store FILE` and serve with the same --store, or "
            "say --allow-anonymous."
        )


def _keys_line(config: ServeConfig, required: bool, count: int) -> str:
    if required:
        return f"{count} of {config.api_key_file or 'the store'}"
    whole = "this machine" if config.loopback else "THE NETWORK"
    return f"none: everybody on {whole} may ask"


def _listen(config: ServeConfig) -> socket.socket:
    """The open port, taken before models are loaded, so that one that is taken is told at once.

    Raises:
        ConfigError: it is taken, may not be had, or the address is none of this machine.
    """
    try:
        found = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigError(f"there is no address '{config.host}' ({error.strerror}).") from error
    family, kind, protocol, _, address = found[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(1024)
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"cannot listen on {config.host} port {config.port} ({error.strerror}); choose "
            "another --port, or stop what listens there."
        ) from error
    return listening
