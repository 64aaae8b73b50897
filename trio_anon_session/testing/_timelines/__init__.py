"""Timelines: whole runs of a session as plain data, run, judged and drawn.

============  =============================================================
``timeline``  `Timeline` and what it is made of: data, and nothing else
``run``       `run_timeline`: plays it, and writes the log
``draws``     what strategies are made of
``log``       what was seen, entry by entry
``turns``     the turns that tasks take
``referee``   reads the log, and finds the first broken promise
``story``     tells the log as what a picture shows
``record``    `Story` and its parts: data
``names``     letters for tokens
``picture``   lays a story out, and draws it as text
``svg``       draws the same as SVG
============  =============================================================
"""
