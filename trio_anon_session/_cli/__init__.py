"""The command ``trio-anon-session``.

===============  =============================================================
``_ending``      how a run ends: exit codes, one line for an error, interrupts
``_settings``    where each setting comes from: flags, environment, file
``_store``       which store tokens are shared in, and what seals them there
``_flags``       the flags that several subcommands have, ``--show-config``
``_wording``     events in words
``_tokens``      ``token`` and ``revoke``
``_watch``       ``watch``
``_fleet``       those who share its token, for ``watch``
``_view``        a session on the terminal, for ``watch`` and ``demo``
``_doctor``      ``doctor``
``_checks``      what ``doctor`` looks at: one function for each check
``_demo``        ``demo``
``_scene``       what happens in it
``_serve``       ``serve``
``_completion``  ``completion``
``_program``     all of them together
===============  =============================================================

What a subcommand alone needs is imported where it runs, so that the others start without it.
"""

from ._program import cli

__all__ = ["cli"]
