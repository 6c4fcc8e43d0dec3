"""Figures of what trained policies do; they load runs and so need torch and `lom_exp`."""
