"""Settings of all tests."""

from hypothesis import settings

# How long an example takes says something of the machine, not of the code. The same code gets the same
# examples, so a change is judged by what it does; `make test-all` searches on with fresh examples.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None)
settings.load_profile("repeatable")
