"""The embedded broker: one SQLite file that any process of this machine may open (D10)."""
