"""Timelines: runs of a session as plain data, run, checked and drawn.

============  =============================================================
``timeline``  `Timeline`, `Answer` and the actions: plain data
``run``       `run_timeline`: runs a timeline, and writes the log
``draws``     helpers for strategies
``log``       the entries of the log
``turns``     instruments of the scheduler
``referee``   finds the first broken promise in the log
``story``     converts the log to the data of a picture
``record``    `Story` and its parts: plain data
``names``     letters for tokens
``picture``   lays out a story, and draws it as text
``svg``       draws the layout as SVG
============  =============================================================
"""
