"""One run as one page: what was trained, how it went, what it learned and how it errs (``refnet report``).

:mod:`~refnet.report.history` reads the figures, :mod:`~refnet.report.seen` what a network makes of
images, :mod:`~refnet.report.kernels` the first layer. :mod:`~refnet.report.curves` and :mod:`~refnet.report.drawing`
draw, :mod:`~refnet.report.page` writes the page.
"""
