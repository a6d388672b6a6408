"""The models that behavior reasoning is measured against: small, honest versions, one file per family."""
