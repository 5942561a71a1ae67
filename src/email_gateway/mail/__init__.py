"""The nouns of mail, pure: addresses, tax ids, content, deliveries, and the MIME writer. No I/O."""
