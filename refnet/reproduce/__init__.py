"""The paper's claims as experiments: ``refnet reproduce``.

:mod:`~refnet.reproduce.claims` says what is compared and measured, :mod:`~refnet.reproduce.experiment` trains,
:mod:`~refnet.reproduce.verdict` decides, by a rule that stood before there was a figure, and
:mod:`~refnet.reproduce.picture` draws.
"""
