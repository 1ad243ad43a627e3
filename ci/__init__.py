"""What review runs on a plan, and the scripts behind `make check`, `make test`, `make lock` and `make docs`."""
