"""Stage 4: judges against judges, policies against policies, with intervals."""
