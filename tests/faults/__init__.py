"""What a session makes of every fault: the rows, the runs that measure them, and the page.

==============  ===========================================================
``rows``        the faults, as plain data, and what is expected of each
``wire``        `WireServer`: a token server on streams, broken below HTTP
``places``      where a run takes place: in process, or on real sockets
``runs``        the runs of a row, and what came of them
``__main__``    writes ``docs/faults.md`` from what was measured
==============  ===========================================================
"""
