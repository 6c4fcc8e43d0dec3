"""All results as one page for a browser, in one file that needs no network."""
