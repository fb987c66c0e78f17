"""Which of the cases of a test run every time, and which of them with the nightly tests alone."""

import pytest


def nightly_but(cases, *kept):
    """Return the cases as parameters; all but the kept ones are marked as nightly.

    It is for tests that take seconds for each case, such as a conversion, and whose cases differ in
    what quicker tests of the same parts look at for every one of them.
    """
    cases = list(cases)
    unknown = [case for case in kept if case not in cases]
    assert not unknown, f"{unknown} are none of {cases}"
    return [case if case in kept else pytest.param(*_values(case), marks=LONG) for case in cases]


def _values(case):
    """Return the values of a case, which is a tuple where a test takes several."""
    return case if isinstance(case, tuple) else (case,)


LONG = (pytest.mark.slow, pytest.mark.nightly)
