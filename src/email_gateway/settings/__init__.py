"""Every setting: one frozen object, made by the one reader of the environment.

`table` is the list, `parsing` reads one value, `rules` say what fits together, `environment` brings
them together. Values of secrets in Secrets Manager are no settings: the `secrets` room fetches them.
"""

from email_gateway.settings.environment import (
    ASCII_WHITE_SPACE,
    DATABASE_IS_EMBEDDED,
    change_environ,
    environ_of,
    environ_without,
    load_settings,
)
from email_gateway.settings.parsing import (
    check_smtp_url,
    parse_admin_key,
    parse_database_url,
    parse_key,
    parse_redis_url,
)
from email_gateway.settings.rules import advise_tls, is_verified
from email_gateway.settings.table import DEPLOYED, SETTINGS, TRANSPORTS, Settings, describe_settings

__all__ = [
    "ASCII_WHITE_SPACE",
    "DATABASE_IS_EMBEDDED",
    "DEPLOYED",
    "SETTINGS",
    "TRANSPORTS",
    "Settings",
    "advise_tls",
    "change_environ",
    "check_smtp_url",
    "describe_settings",
    "environ_of",
    "environ_without",
    "is_verified",
    "load_settings",
    "parse_admin_key",
    "parse_database_url",
    "parse_key",
    "parse_redis_url",
]
