"""Secrets: scopes, encrypted values, permissions."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "secret_scopes",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_secret_scopes"),
    )
    op.create_table(
        "secrets",
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "key", name="pk_secrets"),
        sa.ForeignKeyConstraint(
            ["scope"], ["secret_scopes.name"], name="fk_secrets_scope", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "secret_acls",
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("permission", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "principal", name="pk_secret_acls"),
        sa.ForeignKeyConstraint(
            ["scope"], ["secret_scopes.name"], name="fk_secret_acls_scope", ondelete="CASCADE"
        ),
    )
