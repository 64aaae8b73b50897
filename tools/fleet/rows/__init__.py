"""Measure what happens to a fleet of real processes when something breaks.

=================  ========================================================
``member``         a process of the fleet; it runs with any version
``scene``          `Lab` and `Scene`: a token server, processes, their store
``subscriptions``  row 1: messages that do not arrive
``losses``         row 2: a store that loses a drop
``clusters``       rows 3 and 9a: a cluster that breaks, and that moves keys
``clocks``         rows 4, 5 and 6: clocks that are set back
``distances``      rows 7 and 8: a store that is far away
``accidents``      rows 9b, 9c and 9d: versions, damaged files and kills
``__main__``       runs the rows, and prints one table
=================  ========================================================
"""
