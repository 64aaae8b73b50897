"""The command ``trio-anon-session``.

===============  =============================================================
``_output``      everything that is printed, without foreign control characters
``_ending``      exit codes, error messages, interrupts
``_settings``    where each setting comes from: flags, environment, file
``_ways``        how the client authenticates
``_files``       the files with its secret, key or assertion
``_store``       the store in which tokens are shared, and its encryption keys
``_flags``       the flags that several subcommands have, ``--show-config``
``_wording``     the texts of events and counts
``_tokens``      ``token`` and ``revoke``
``_watch``       ``watch``
``_fleet``       the processes that share a token, for ``watch``
``_view``        a session on the terminal, for ``watch`` and ``demo``
``_doctor``      ``doctor``
``_checks``      the checks of ``doctor``, with a map of its own
``_demo``        ``demo``
``_scene``       the server, the workers and the faults of ``demo``
``_serve``       ``serve``
``_completion``  ``completion``
``_program``     the group of all subcommands
===============  =============================================================

A module that only one subcommand needs is imported when that subcommand runs, so that the
others start faster.
"""

from ._program import cli

__all__ = ["cli"]
