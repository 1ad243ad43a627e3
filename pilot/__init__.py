"""The front door: what `make` runs around `pulumi`, from an empty machine to a URL that answers."""
