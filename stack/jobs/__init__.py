"""Side effects that no provider has: small idempotent programs of the standard library, run by pulumi-command."""
