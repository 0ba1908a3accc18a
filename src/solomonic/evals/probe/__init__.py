"""The report of `solomonic probe` as one self-contained page; `solomonic.lm.probe` measures."""

from solomonic.evals.probe.page import save_page as save_page
