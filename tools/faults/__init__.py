"""The effect of every fault on a session: the rows, the runs that measure them, and the page.

================  =========================================================
``rows``          the faults as plain data, and the expected result of each
``wire``          `WireServer`: a token server on streams, with faults below HTTP
``places``        places for a run: in process, or on real sockets
``runs``          the runs of a row, and their results
``page``          ``docs/reference/faults.md``, made from the measured results
``__main__``      writes the page
``test_matrix``   compares every row with its expected result
``test_page``     compares the page with new runs
``test_totals``   checks limits on time and memory under every fault
``test_noise``    draws bytes, headers and fields
================  =========================================================
"""
