"""`solomonic serve users list|delete`: what a store keeps of its users, and the end of it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from solomonic.cli import console
from solomonic.cli.options import Json
from solomonic.core import ConfigError

if TYPE_CHECKING:
    from solomonic.serve.keys import KeyFile
    from solomonic.serve.store import Store

users_app = typer.Typer(
    help="Users of a store: how much is kept, and its end.", no_args_is_help=True
)
StoreUrl = Annotated[
    str, typer.Option(metavar="FILE|URL", help="The server's store.", show_default=False)
]


@users_app.command("list")
def list_users(store: StoreUrl, json: Json = False) -> None:
    """One line a user: name, sentences, bytes of sentences, bytes of the model's state."""
    with closing(_existing(store)) as opened:
        usage = opened.usage()
    if json:
        console.emit([console.plain(one) for one in map(vars, usage)])
        return
    for one in usage:
        print(f"{one.user}\t{one.utterances}\t{one.history_bytes}\t{one.state_bytes}")


@users_app.command("delete")
def delete_user(
    user: Annotated[str, typer.Argument(help="Name, as `users list` shows it.")],
    store: StoreUrl,
    api_key_file: Annotated[
        str, typer.Option(metavar="FILE", help="The server's key file, if it has one.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete every trace of a user: sentences, phrases, the model's state, keys bound to them.

    A running server forgets them within five seconds.
    """
    with closing(_existing(store)) as opened:
        file = _key_file(api_key_file)
        bound = file is not None and any(key.user == user for key in file.keys())  # noqa: SIM118
        if user not in opened.users() and not bound:
            raise ConfigError(
                f"there is no user '{user}'; `solomonic serve users list` names them."
            )
        if not yes:
            typer.confirm(f"Delete all that is kept of {user}?", abort=True)
        gone = opened.delete_user(user)
        if file is not None:
            gone["keys"] = gone.get("keys", 0) + file.revoke_user(user)
    counts = ", ".join(f"{count} {name}" for name, count in gone.items())
    console.say(f"deleted {user}: {counts}.")


def _key_file(path: str) -> KeyFile | None:
    """Raises ConfigError for a misspelt name, which is no empty key file."""
    from solomonic.serve.keys import KeyFile

    if path and not Path(path).is_file():
        raise ConfigError(f"there is no key file {path}; give the one that the server was told.")
    return KeyFile(path) if path else None


def _existing(store: str) -> Store:
    """The store; a misspelt name is not to become a new and empty one."""
    from solomonic.cli.serve import check_installed
    from solomonic.serve.store import open_store

    check_installed()
    if "://" not in store and not Path(store).is_file():
        raise ConfigError(f"there is no store {store}; give the one that the server was told.")
    return open_store(store)
