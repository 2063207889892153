"""`lakeport token`: works on the home itself, beside a running server or without one."""

import asyncio

import click

from lakeport.auth.tokens import ADMIN, Tokens
from lakeport.cli.options import load_settings
from lakeport.errors import ApiError
from lakeport.home import Home
from lakeport.stores.base import StoreError
from lakeport.stores.sql import SqlStore
from lakeport.stores.sqlite import sqlite_url


@click.command(short_help="Make an access token and print it.")
@click.option("--home", metavar="PATH", help="The server's home.  [env: LAKEPORT_HOME]")
@click.option("--comment", default="made by `lakeport token`", help="What the token is for.")
@click.option(
    "--lifetime-seconds", type=click.IntRange(min=1), help="Seconds until it expires.  [never]"
)
@click.option("--caller", default=ADMIN, show_default=True, help="Whom the token is for.")
@click.option(
    "--group",
    "groups",
    multiple=True,
    help="A group that the caller is in; may be repeated. Replaces the groups that a caller who is "
    "known already was in. `admins` may do everything.",
)
def token(
    home: str | None,
    comment: str,
    lifetime_seconds: int | None,
    caller: str,
    groups: tuple[str, ...],
) -> None:
    """Make an access token and print it, and nothing else.

    Without --caller it is one more for the admin.
    """
    place = Home(load_settings({"home": home}).home)
    if not place.database.exists():
        raise click.ClickException(
            f"There is no Lakeport home at {place.path}: start `lakeport serve` once, or name "
            "another with --home or LAKEPORT_HOME."
        )
    try:
        value = asyncio.run(_issue(place, caller, groups or None, comment, lifetime_seconds))
    except (ApiError, StoreError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(value)


async def _issue(
    home: Home,
    caller: str,
    groups: tuple[str, ...] | None,
    comment: str,
    lifetime_seconds: int | None,
) -> str:
    # A server of another version may be running on this database: not ours to migrate.
    store = SqlStore(sqlite_url(home.database), migrate=False)
    try:
        await store.open()
        value, _ = await Tokens(store, changes=home.token_changes).issue(
            caller, groups, comment=comment, lifetime_seconds=lifetime_seconds
        )
    finally:
        await store.close()
    return value
