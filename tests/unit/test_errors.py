"""The tree of errors: each crosses a process border whole, is the built-in a caller expects, and has the promised exit code."""

from __future__ import annotations

import pickle

import pytest

from thinkrec import errors
from thinkrec.errors import ThinkrecError

BUILT_INS = {
    errors.ConfigError: (ValueError, 2),
    errors.MissingFileError: (FileNotFoundError, 2),
    errors.DataError: (ValueError, 2),
    errors.LeakError: (ValueError, 2),
    errors.ModelError: (ValueError, 2),
    errors.PackageError: (ValueError, 2),
    errors.EnvironmentFault: (RuntimeError, 3),
    errors.ArtefactError: (RuntimeError, 4),
    errors.StageFailed: (RuntimeError, 4),
    errors.Interrupted: (RuntimeError, 4),
    errors.NonFiniteLoss: (ArithmeticError, 4),
    errors.ExportRefused: (RuntimeError, 4),
}


def test_every_leaf_is_in_the_table():
    classes = {found for found in vars(errors).values() if isinstance(found, type) and issubclass(found, ThinkrecError)}
    assert classes - set(BUILT_INS) == {ThinkrecError, errors.UserError}


@pytest.mark.parametrize("kind", [*BUILT_INS, errors.UserError, ThinkrecError], ids=lambda kind: kind.__name__)
def test_pickling_keeps_class_and_words(kind):
    error = kind("seven rows are bad", "ratings.dat, row 3", "drop them")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (again.what, again.where, again.fix) == ("seven rows are bad", "ratings.dat, row 3", "drop them")
    assert str(again) == str(error) == "seven rows are bad\n  where: ratings.dat, row 3\n  fix:  drop them"


@pytest.mark.parametrize("kind", BUILT_INS, ids=lambda kind: kind.__name__)
def test_each_is_the_right_built_in_with_the_promised_exit_code(kind):
    built_in, exit_code = BUILT_INS[kind]
    assert issubclass(kind, built_in)
    assert kind("x").exit_code == exit_code
    assert issubclass(kind, errors.UserError) == (exit_code == 2)


def test_parts_that_are_not_given_leave_no_empty_line():
    assert str(errors.DataError("bad")) == "bad"
    assert str(errors.MissingFileError("gone", fix="make it")) == "gone\n  fix:  make it"
