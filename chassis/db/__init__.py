"""Relational databases: connections and transactions, migrations, the transactional outbox."""
