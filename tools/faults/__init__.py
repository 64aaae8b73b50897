"""What a session makes of every fault: the rows, the runs that measure them, and the page.

================  =========================================================
``rows``          the faults, as plain data, and what is expected of each
``wire``          `WireServer`: a token server on streams, broken below HTTP
``places``        where a run takes place: in process, or on real sockets
``runs``          the runs of a row, and what came of them
``page``          ``docs/reference/faults.md``, made from what was measured
``__main__``      writes it
``test_matrix``   every row, and what is expected
``test_page``     the page that is there is the one that is measured
``test_totals``   limits that no fault stretches
``test_noise``    bytes, headers and fields that are drawn
================  =========================================================
"""
