"""The store: what must not be lost. The only package that knows SQLAlchemy and its databases."""
