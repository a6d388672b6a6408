"""The models that behaviour reasoning is measured against: small, honest versions, one file per family."""
