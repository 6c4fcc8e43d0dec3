"""Tables and figures from result folders; needs their files and nothing of `lom_exp`."""
