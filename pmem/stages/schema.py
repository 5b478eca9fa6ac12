"""`pmem schema`: the schemas, printed."""

import click

from pmem.check import TYPES, schema_dir


@click.command(epilog="Example: pmem schema qa")
@click.argument("kind", metavar="[TYPE]", required=False, type=click.Choice(TYPES))
def command(kind: str | None) -> None:
    """Print the JSON Schema of a record type.

    Without TYPE: the list of types, a line each.
    """
    if kind:
        click.echo((schema_dir() / f"{kind}.schema.json").read_text(encoding="utf-8"), nl=False)
        return
    from pmem.check import schema

    for one in TYPES:
        click.echo(f"{one:<13} {schema(one)['description']}")
