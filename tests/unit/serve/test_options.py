"""Who may serve whom: a key where others can reach the server, and one that is worth the name."""

from __future__ import annotations

import pytest

from thinkrec.errors import ConfigError, EnvironmentFault
from thinkrec.serve.options import ServeOptions, read_key

KEY = "0123456789abcdef"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.7", "localhost", "::1"])
def test_this_machine_alone_needs_no_key(host):
    assert read_key("", host, {}) == ""
    assert ServeOptions().admits("")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.4", "serving.example"])
def test_others_need_one(host):
    with pytest.raises(ConfigError, match="no key is asked for"):
        read_key("", host, {"THINKREC_KEY": KEY})
    options = ServeOptions(key_sha256=read_key("THINKREC_KEY", host, {"THINKREC_KEY": KEY}))
    assert KEY not in repr(options)
    assert options.admits(KEY)
    assert not options.admits(KEY[:-1])
    assert not options.admits("")


@pytest.mark.parametrize(("environment", "match"), [({}, "is not set"), ({"K": "short"}, "5 characters")])
def test_a_key_that_is_none_is_refused(environment, match):
    with pytest.raises(EnvironmentFault, match=match) as caught:
        read_key("K", "127.0.0.1", environment)
    assert "short" not in str(caught.value)
