"""Optuna's own dashboard opens the journal that a study writes."""
