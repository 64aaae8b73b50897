"""One token for a fleet: processes that share what one of them has got.

==============  ===========================================================
``_shared``     `SharedTokenManager`: asks the store and the endpoint
``_watch``      hears the news, and looks
``_attempts``   takes the lease, and requests a token under it
``_link``       how the store is asked, and told
``_claimant``   what a process knows, and what it does next: pure
``_known``      tokens that it has used, and those that were dropped: pure
``_access``     a time limit for the store, and what is logged about it
``_protocol``   `TokenStore`: what a store is asked, and what it answers
``_trial``      tries a store out
``_records``    what lies in a store, and under which name
``_status``     `StoreStatus`: what there is, made fit to show
``_statistics`` `StoreStatistics`: what a process has done with a store
``_entry``      how what is kept under a name changes: pure functions
``_clock``      a machine's time
``_memory``     `MemoryStore`, for one Trio run
``_sqlite``     `SQLiteStore`, for the processes of one machine
``_files``      checks that no other user can replace its files
``_redis``      `RedisStore`, for many machines
``_lua``        what a server does for it
``_coredis``    how it is asked
``_address``    where it is
``_sealing``    records that nobody can read without a key
==============  ===========================================================
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
