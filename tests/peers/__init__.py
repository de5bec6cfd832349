"""Comparisons with other tools; run by hand, in an environment that has them; no part of CI."""
