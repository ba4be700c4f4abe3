"""Optuna: the space, the objective, the study and its workers; joins the whole way."""
