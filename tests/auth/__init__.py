"""`SessionAuth`, beside `tests.test_auth`."""
