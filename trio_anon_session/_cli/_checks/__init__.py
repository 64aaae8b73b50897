"""The checks of ``doctor``: one function for each check; they print nothing.

==================  ======================================================================
``_examine``        all checks in their order
``_result``         the result of a check
``_configuration``  the settings
``_credentials``    the client's secret, key, assertion or certificate
``_assertion``      what is in an assertion
``_certificate``    the client's certificate
``_issuer``         the metadata of the issuer
``_store``          the store
``_network``        the host name, the connection, and the server's certificate
``_token``          a token request, the token's lifetime, the clock, and the revocation
``_resource``       the API of ``--url``
==================  ======================================================================
"""

from ._examine import examine
from ._result import Check, exit_code_of_all

__all__ = ["Check", "examine", "exit_code_of_all"]
