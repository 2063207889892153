"""Run by alembic: migrates within the transaction of the connection that it is given."""

from alembic import context

from lakeport.stores.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters a table by copying it
)
with context.begin_transaction():
    context.run_migrations()
