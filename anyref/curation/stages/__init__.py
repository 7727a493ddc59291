"""The stages of curation, one module per subject: each a frozen dataclass of settings whose worker takes one record."""
