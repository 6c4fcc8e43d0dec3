"""Tracking URIs: which MLflow takes, and how their credentials are kept out of files and logs."""

import os
import re
from urllib.parse import unquote, urlsplit, urlunsplit

from lom_exp.errors import ConfigError

_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")


def check_uri(uri: str) -> None:
    """Raise ConfigError for a URI that MLflow cannot use; a folder is one of them since 3.17."""
    if urlsplit(uri).scheme.split("+")[0] not in _SCHEMES:
        raise ConfigError(
            f"tracking.uri={redact(uri)} is no place MLflow can write to; give "
            "sqlite:///path/to/mlflow.db, http://host:port, or the URI of another database"
        )


def redact(text: str) -> str:
    """The text, with the user and password of every URI in it replaced by ***."""
    return re.sub(r"://[^\s/'\"]*@", "://***@", text)


def hand_over_credentials(uri: str) -> str:
    """The URI of a server without its credentials, which go where MLflow's client finds them.

    MLflow prints URIs and puts them into errors, so it gets none that holds a password. A
    database's URI is returned as it is.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or "@" not in parts.netloc:
        return uri
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username or "")
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password or "")
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def reason(error: Exception) -> str:
    """An error in one short line, without credentials."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return redact(lines[0])[:300]
