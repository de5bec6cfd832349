"""Lint: what a target makes of a quantized ONNX file, read from the file alone."""

from fxquant.lint.linting import RULES, lint_model
from fxquant.lint.report import LintReport
from fxquant.lint.rule import Finding, Match, Rule, Severity
from fxquant.lint.table import rules_text

__all__ = ["RULES", "Finding", "LintReport", "Match", "Rule", "Severity", "lint_model", "rules_text"]
