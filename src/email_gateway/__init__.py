"""A self-hosted gateway for transactional mail that carries personal data."""

__version__ = "0.1.0"
