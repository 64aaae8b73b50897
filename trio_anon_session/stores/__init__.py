"""Shared tokens: the processes of a fleet use one token, which one of them requests.

==============  ==================================================================
``_shared``     `SharedTokenManager`, the token manager of each process
``_questions``  answers a session's request for a token
``_watch``      the task that waits for notifications from the store
``_attempts``   takes the lease and requests a token
``_link``       the requests of one process to the store
``_claimant``   decides what a process does next: pure
``_known``      the tokens that a process has used, and the dropped ones: pure
``_access``     time limit, state and log records of the store
``_protocol``   `TokenStore`, the interface of a store
``_trial``      tests whether a store works
``_records``    names and records in a store
``_status``     `StoreStatus`, the content of a store without the token
``_statistics`` `StoreStatistics`, the counters of one process
``_entry``      the entry of one name, and its changes: pure functions
``_clock``      the clocks of one machine
``_memory``     `MemoryStore`, for one Trio run
``_sqlite``     `SQLiteStore`, for the processes of one machine
``_files``      checks that no other user can replace the files of `SQLiteStore`
``_redis``      `RedisStore`, for many machines
``_lua``        the scripts that the Valkey or Redis server runs
``_coredis``    connections to the server
``_answers``    limits on what the server sends
``_address``    parses the URL of the server
``_sealing``    encryption of records
==============  ==================================================================
"""

from ._memory import MemoryStore
from ._protocol import Look, StoredFailure, StoredToken, StoreError, TokenStore
from ._redis import RedisStore
from ._shared import ConfiguredTokenSource, SharedTokenManager
from ._sqlite import SQLiteStore
from ._statistics import StoreStatistics
from ._status import StoreStatus

__all__ = [
    "ConfiguredTokenSource",
    "Look",
    "MemoryStore",
    "RedisStore",
    "SQLiteStore",
    "SharedTokenManager",
    "StoreError",
    "StoreStatistics",
    "StoreStatus",
    "StoredFailure",
    "StoredToken",
    "TokenStore",
]
