"""What is kept in PostgreSQL, one module per noun; all SQL stands in `sql/`, named.

The store moves bytes and knows nothing of the vault: what is personal reaches it sealed.
"""
