"""Schemas by their id, from a Schema Registry.

An id that the registry does not know belongs to one bad record. A registry that does not answer says nothing about the
record: it is asked again for a while, and then the run stops before the record, so that nothing is lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from confluent_kafka.schema_registry import SchemaRegistryClient, SchemaRegistryError

from dataflows.sources.kafka_config import SchemaRegistryConfig
from schemas.enums import DeadLetterReason
from schemas.errors import DataError, InputError, TransientError

__all__ = ["SchemaRegistry"]

_T = TypeVar("_T")
_NO_SUCH_SCHEMA: Final = 40403
_DENIED: Final = (401, 403)
_FIRST_WAIT: Final = 0.1
_LONGEST_WAIT: Final = 2.0
_ATTEMPT_SECONDS: Final = 5.0
"""Longest wait for one answer; within the time for all attempts there is room for several."""


class SchemaRegistry:
    """A Schema Registry. Its answers are not kept. Whoever asks closes it; it opens by itself when it is asked again.

    Parameters
    ----------
    config
        Where it is, and how we are let in.
    seconds
        Longest time that is spent on a question, attempts and waits together.

    Raises
    ------
    InputError
        The file of certificates is missing or none.
    """

    def __init__(self, config: SchemaRegistryConfig, seconds: float) -> None:
        self._url = config.url
        self._seconds = seconds
        self._settings: dict[str, Any] = {
            "url": config.url,
            "timeout": min(_ATTEMPT_SECONDS, seconds),
            "max.retries": 0,
        }
        if config.user:
            self._settings["basic.auth.user.info"] = f"{config.user}:{config.password.get_secret_value()}"
        if config.ca:
            self._settings["ssl.ca.location"] = config.ca
        try:
            self._client: SchemaRegistryClient | None = SchemaRegistryClient(self._settings)
        except (OSError, ValueError) as error:
            raise InputError(
                f"expected certificates of authorities in `{config.ca}`, found: {error}; correct `schema_registry.ca`"
            ) from error

    def check(self) -> None:
        """Ask for something that every registry knows.

        Raises
        ------
        InputError
            There is no registry at the address, or it does not let us in.
        TransientError
            It did not answer in time.
        """
        self._ask(lambda client: client.get_schema_types(), "an answer")

    def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def schema(self, schema_id: int) -> str:
        """Return the text of an Avro schema.

        Raises
        ------
        DataError
            There is no such schema, or it cannot be used: not Avro, or of several parts.
        InputError
            The registry does not let us in.
        TransientError
            It did not answer in time.
        """
        found = self._ask(lambda client: client.get_schema(schema_id), f"schema {schema_id}")
        if found is None or found.schema_str is None:
            raise _unusable(f"expected a schema with id {schema_id} in the registry, found none")
        if (found.schema_type or "AVRO") != "AVRO":
            raise _unusable(f"expected an Avro schema with id {schema_id}, found one of type {found.schema_type}")
        if found.references:
            raise _unusable(f"expected schema {schema_id} to be whole, found that it refers to other schemas")
        text: str = found.schema_str
        return text

    def _ask(self, question: Callable[[SchemaRegistryClient], _T], what: str) -> _T | None:
        """Return the answer, or None where the registry says that there is no such schema."""
        deadline, wait = time.monotonic() + self._seconds, _FIRST_WAIT
        while True:
            try:
                self._client = self._client or SchemaRegistryClient(self._settings)
                return question(self._client)
            except SchemaRegistryError as error:
                if error.error_code == _NO_SUCH_SCHEMA:
                    return None
                failure: Exception = error
                self._refuse_final(error, what)
            except Exception as error:
                failure = error
            if time.monotonic() + wait > deadline:
                raise TransientError(
                    f"expected {what} from the schema registry `{self._url}` within {self._seconds:.0f} s, found: "
                    f"{str(failure) or type(failure).__name__}; is it running and reachable?"
                ) from failure
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    def _refuse_final(self, error: SchemaRegistryError, what: str) -> None:
        """Raise what a further attempt would only get again."""
        status = error.http_status_code
        if status in _DENIED:
            raise InputError(
                f"expected to be let in by the schema registry `{self._url}`, found status {status}; check "
                "`schema_registry.user` and `password`"
            ) from error
        if status < 500 and status not in (408, 429):
            raise InputError(
                f"expected {what} from a schema registry at `{self._url}`, found status {status}; check the address"
            ) from error


def _unusable(detail: str) -> DataError:
    return DataError(DeadLetterReason.MALFORMED, detail)
