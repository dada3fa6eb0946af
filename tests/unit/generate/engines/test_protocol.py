from __future__ import annotations

import pytest

from thinkrec.errors import ConfigError
from thinkrec.generate.engines.protocol import GenParams, GenRequest, check_capabilities


@pytest.mark.parametrize(
    ("asked", "capability"),
    [({"schema": "{}"}, "schema"), ({"regex": "a+"}, "regex"), ({"choice": ("Yes", "No")}, "choice"), ({"n": 2, "temperature": 1.0}, "n")],
)
def test_a_request_says_what_it_needs(asked, capability):
    request = GenRequest("r", "text", GenParams(4, **asked))
    assert request.needs() == {capability}
    check_capabilities("full", frozenset({capability}), [request])
    with pytest.raises(ConfigError, match=f"'bare' cannot do {capability}"):
        check_capabilities("bare", frozenset(), [GenRequest("plain", "text", GenParams(4)), request])


def test_plain_requests_need_nothing():
    assert not GenRequest("r", (1, 2), GenParams(4, temperature=1.0, top_p=0.9, stop=("\n",))).needs()
    assert GenRequest("r", (1, 2), GenParams(4), adapter="expert").needs() == {"adapter"}


@pytest.mark.parametrize(
    "wrong", [{"max_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"n": 0}, {"n": 2}, {"schema": "{}", "regex": "a"}]
)
def test_parameters_that_cannot_be_are_refused(wrong):
    with pytest.raises(ConfigError):
        GenParams(**{"max_tokens": 4, **wrong})
